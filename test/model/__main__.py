import sys, time
import explore
from explore import counts
from scenarios import *
from faults import FAULTS
if sys.argv[1]=='f':
    for n,(why,s) in FAULTS.items():
        if len(sys.argv)>2 and n not in sys.argv[2:]: continue
        t=time.time()
        try: r=finds(n,[s])
        except Exception as e: r='?? '+repr(e)
        print('caught' if r and r[:2]!='??' else 'MISSED', n, str(r)[:170], round(time.time()-t,2), flush=True)
    sys.exit()
def go(s):
    t=time.time()
    try: run(s)
    except Violation as e: print(s,'->',e)
    print(s, counts.operations, counts.cuts, len(explore.seen), counts.kills, counts.watched, round(time.time()-t,1), flush=True)
for a in sys.argv[1:]: go(eval('Scenario('+a+')'))
