import sys, time
import explore
from explore import counts
from scenarios import *
def go(s):
    t=time.time()
    try: run(s)
    except Violation as e: print(s,'->',e)
    print(s, counts.operations, counts.cuts, len(explore.seen), counts.kills, counts.watched, round(time.time()-t,1), flush=True)
for a in sys.argv[1:]: go(eval('Scenario('+a+')'))
