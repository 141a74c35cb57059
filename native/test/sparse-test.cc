#include "assert.h"
int main(){EXPECT(true);}
