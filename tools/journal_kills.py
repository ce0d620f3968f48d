"Desks that write to one journal and are killed while they do: what was confirmed must be there afterwards. `python tools/journal_kills.py 60` prints what was found"
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from textnb.panels import CleaningDesk

def table(n=40):
    "Texts and labels to decide about"
    return pd.DataFrame(dict(text=[f'text {i}' for i in range(n)], label=['neg', 'pos']*(n//2)))

def _decide(journal, name, n, out):
    "Make `n` decisions at a desk of one's own, and confirm each as a line in the pipe `out`"
    desk = CleaningDesk(table(), journal)
    for i in range(n):
        desk.note(i%40, f'{name}:{i}')
        os.write(out, f'{name}:{i}\n'.encode())

def _forked(work, *args):
    "A child that does `work`, and the end of a pipe from which its lines can be read"
    r,w = os.pipe()
    pid = os.fork()
    if pid: os.close(w)
    else:
        code = 1
        try:
            os.close(r)
            work(*args, w)
            code = 0
        finally: os._exit(code)
    return pid,r

def _said(r):
    "All lines from the pipe `r`; half a line was not said"
    said = b''
    while part := os.read(r, 65536): said += part
    os.close(r)
    return said.decode().split('\n')[:-1]

def notes_in(journal):
    "The notes that a desk finds in `journal`, in their order"
    return [value for _,changes in CleaningDesk(table(), journal).log.events for _,_,value in changes]

def many_writers(folder, processes=4, decisions=450):
    "`processes` desks write to one journal at once; how many decisions were confirmed, and which of them are not there"
    journal = Path(folder)/'many.jsonl'
    children = [_forked(_decide, journal, name, decisions) for name in 'abcdefghijkl'[:processes]]
    said = [line for _,r in children for line in _said(r)]
    codes = [os.waitpid(pid, 0)[1] for pid,_ in children]
    lost = set(said)-set(notes_in(journal))
    return dict(processes=processes, confirmed=len(said), lost=sorted(lost), failed=sum(map(bool, codes)))

def kill_writers(folder, kills=60, processes=2, seed=0):
    "Kill one of several writing desks at a random moment, `kills` times; what was confirmed and is not there, and the journals that cannot be opened"
    rng, res = random.Random(seed), dict(kills=0, confirmed=0, lost=[], broken=[])
    journal, said = Path(folder)/'killed.jsonl', []
    for k in range(kills):
        children = [_forked(_decide, journal, f'{k}{name}', 10**6) for name in 'abcdefgh'[:processes]]
        time.sleep(rng.uniform(.05, .25))
        for pid,_ in rng.sample(children, len(children)):
            os.kill(pid, signal.SIGKILL)
            time.sleep(rng.uniform(0, .01))
        for pid,r in children:
            said += _said(r)
            os.waitpid(pid, 0)
        res['kills'] += len(children)
        try: there = set(notes_in(journal))
        except Exception as e: # whatever it is, it is what the test is about
            res['broken'].append(f'{type(e).__name__}: {e}')
            break
        res['lost'] = sorted(set(said)-there)
        if res['lost']: break
    return {**res, 'confirmed': len(said)}

def main(kills='60', processes='4', decisions='450'):
    "Both, in a folder that goes away"
    with tempfile.TemporaryDirectory() as d: res = [many_writers(d, int(processes), int(decisions)), kill_writers(d, int(kills)//2)]
    print(json.dumps(res))
    return int(any(o['lost'] or o.get('broken') or o.get('failed') for o in res))

if __name__=='__main__': sys.exit(main(*sys.argv[1:]))
