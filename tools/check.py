"What `make test` checks of the sources before it runs pytest, and `make prepare` puts right: `python tools/check.py [sources|readme] [--fix]`"
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

def files():
    "The notebooks and the modules made of them, each with a hash of its bytes"
    fs = [*ROOT.glob('nbs/**/*.ipynb'), *ROOT.glob('textnb/**/*.py')]
    return {f.relative_to(ROOT).as_posix(): sha256(f.read_bytes()).hexdigest() for f in fs if not {'.ipynb_checkpoints', '__pycache__'}&set(f.parts)}

def drop_views():
    "Take the views of live widgets out of saved outputs: without their kernel they are dead, and what stands beside them is the picture"
    from fastcore.nbio import read_nb, write_nb
    for p in ROOT.glob('nbs/**/*.ipynb'):
        if 'application/vnd.jupyter.widget' not in p.read_text(encoding='utf-8'): continue
        nb = read_nb(p)
        for o in (o for c in nb.cells for o in c.get('outputs', []) if 'data' in o):
            for k in [k for k in o['data'] if k.startswith('application/vnd.jupyter.widget')]: del o['data'][k]
        write_nb(nb, p)

def sources():
    "Export and clean every notebook; the files that this changed"
    from nbdev.clean import nbdev_clean
    from nbdev.doclinks import nbdev_export
    before = files()
    nbdev_export.__wrapped__()
    nbdev_clean.__wrapped__()
    drop_views()
    after = files()
    return sorted(k for k in {**before, **after} if before.get(k)!=after.get(k))

def readme():
    "Write README.md from index.ipynb; the files that this changed"
    from tools.docs.readme import make_readme
    return [f.relative_to(ROOT).as_posix() for f in make_readme(ROOT)]

WHY = dict(sources='these were not as `nbdev-export` and `nbdev-clean` leave them (a notebook changed without its module, a module by hand, or a notebook not cleaned)',
           readme='README.md was not in step with nbs/index.ipynb')

def main(*args):
    fix,todo = '--fix' in args,[a for a in args if a!='--fix'] or list(WHY)
    bad = 0
    for a in todo:
        changed = {'sources': sources, 'readme': readme}[a]()
        if not changed: continue
        print(f'  {"put right" if fix else "NOT CLEAN"}: {WHY[a]}:', *[f'    {c}' for c in changed], sep='\n')
        bad += len(changed)
    if not bad: print('  nothing to change')
    elif not fix: print('  They are put right now. Look at `git diff`, commit, and run this again. (`make prepare` does it beforehand.)')
    return 0 if fix else min(bad, 100)

if __name__=='__main__': sys.exit(main(*sys.argv[1:]))
