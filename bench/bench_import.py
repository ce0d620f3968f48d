"""Time to import: `from textnb.all import *` beside `import torch, pandas`, and, if an interpreter is given, `from fastai.text.all import *`.

    python bench/bench_import.py [--peer PYTHON_WITH_FASTAI] [--rounds 5]

Each import runs in a process of its own, the sides take turns, and the shortest time of each counts."""
import subprocess
import sys

from sides import main, ratio

CODE = dict(textnb='from textnb.all import *', base='import torch, pandas', fastai='from fastai.text.all import *')


def measure(side, python=sys.executable):
    "Milliseconds that the interpreter `python` takes for the import of `side`"
    code = f'import time; t=time.perf_counter()\n{CODE[side]}\nprint(1000*(time.perf_counter()-t))'
    res = subprocess.run([python, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    if res.returncode: raise RuntimeError(f'the import of {side} with {python} failed:\n{res.stderr[-2000:]}')
    return float(res.stdout.split()[-1])


def run(peer=None, rounds=5)->dict:
    "Figures of all sides, and ratios (above 1 is better)"
    sides = {'textnb': sys.executable, 'base': sys.executable, **({'fastai': peer} if peer else {})}
    times = {k: [] for k in sides}
    for i in range(rounds+1):
        for side, python in sides.items():
            t = measure(side, python)
            if i: times[side].append(t)
    res = {k: {'import_ms': min(v)} for k, v in times.items()}
    res['times_of_base'] = {'import_ms': res['textnb']['import_ms']/res['base']['import_ms']}
    if peer: res['ratio'] = ratio(res['textnb'], res['fastai'])
    return res


if __name__ == '__main__': main(__doc__, run, rounds=5)
