"""All measures: runs every bench/bench_*.py, prints a table and writes bench/results/*.json.

    python bench/run.py [--peer PYTHON_WITH_FASTAI] [--only import,predict]

A bench is a file with a function `run(peer=None)` that returns its figures by side (`{'textnb': {figure: value}, 'fastai': {...}, 'ratio': {...}}`); ratios above 1 are better."""
import argparse
import importlib.util
import inspect
import json
import os
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What the design asks for: bench, side, figure, the bound, and in words. A bound with a minus sign is an upper one. A bench may have a list of its own.
GOALS = [
    ('generate', 'ratio', 'beam_ms', 1, "beam search, 20 words, 100 beams, AWD-LSTM 400/1152/3: at most fastai v1's 2.0 seconds"),
    ('generate', 'flat', 'worst', .67, 'writing: a token after 1,000 others costs at most 1.5 times one after 10, for every architecture'),
    ('import', 'times_of_base', 'import_ms', -1.3, 'import: at most 1.3 times torch and pandas'),
    ('models', 'ratio', 'lm_float32_tokens_s', 1, "training in float32: at least fastai's speed"),
    ('models', 'ratio', 'lm_bfloat16_tokens_s', 2, "training in bfloat16: at least twice fastai's float32"),
    ('predict', 'ratio', 'get_preds_docs_s', 2, "get_preds: at least twice fastai's documents a second"),
    ('predict', 'ratio', 'predict_ms', 3, "predict of a short text: at most a third of fastai's time"),
    ('qrnn', 'ratio', 'encoder_tokens_s', 1.5, 'QRNN layers in training: at least 1.5 times the speed of LSTM layers of the same size'),
    ('qrnn', 'ratio', 'clas_tokens_s', 1.5, 'QRNN reading documents: at least 1.5 times the speed of an LSTM of the same size'),
    ('tokenize', 'ratio', 'docs_s', 8, "tokenizing: at least 8 times fastai's documents a second"),
    ('tokenize', 'textnb', 'bytes_per_token', -4, 'a store: at most 4 bytes a token'),
    ('tokenize', 'textnb', 'peak_mb', -1000, 'a million short documents: peak under 1 GB')]


def load(path):
    "The module of the bench in the file `path`"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    mod = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mod)
    return mod


def machine():
    "What the figures were taken on"
    import torch
    return dict(python=platform.python_version(), torch=torch.__version__, system=platform.system(), arch=platform.machine(), cores=os.cpu_count(),
                load=round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None, date=time.strftime('%Y-%m-%d'))


def number(x):
    "Three or four figures of `x` are enough to read"
    if not isinstance(x, (int, float)) or isinstance(x, bool): return '' if x is None else str(x)[:14]
    return f'{x:,.0f}' if abs(x) >= 1000 else f'{x:.4g}'


def table(name, res):
    "The figures of one bench, a row for each, a column for each side"
    sides = [k for k, v in res.items() if isinstance(v, dict)]
    rows = list(dict.fromkeys(f for s in sides for f in res[s]))
    lines = [[name, *sides], *([f, *(number(res[s].get(f)) for s in sides)] for f in rows)]
    lines += [[k, number(v)] for k, v in res.items() if k not in sides]
    widths = [max(len(r[i]) for r in lines if len(r) > i) for i in range(max(map(len, lines)))]
    return '\n'.join('  '+'  '.join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) for r in lines)


def judge(results):
    "A line for each goal that these figures can speak to, and the goals with their verdicts"
    lines, res = [], []
    own = [g for b in results for g in getattr(load(HERE/f'bench_{b}.py'), 'GOALS', [])]
    for bench, side, fig, bound, words in GOALS+own:
        x = results.get(bench, {}).get(side, {}).get(fig)
        if x is None: continue
        ok = x <= -bound if bound < 0 else x >= bound
        res.append(dict(bench=bench, figure=fig, value=x, goal=words, reached=ok))
        lines.append(f'  {"reached    " if ok else "NOT reached"}  {number(x):>8}  {words}')
    return lines, res


def main(argv=None):
    "Run the benches, print and keep their figures"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--peer', help='interpreter with fastai 2.8.12, to be measured beside textnb')
    parser.add_argument('--only', default='', help='names of benches, separated by commas: import,predict')
    args = parser.parse_args(argv)
    out, results, failed = HERE/'results', {}, []
    out.mkdir(exist_ok=True)
    files = {f.stem[len('bench_'):]: f for f in sorted(HERE.glob('bench_*.py'))}
    only = [o for o in args.only.split(',') if o]
    if unknown := set(only)-set(files): parser.error(f'no bench called {", ".join(sorted(unknown))}; there are {", ".join(files)}')
    for i, (name, f) in enumerate(todo := [o for o in files.items() if not only or o[0] in only], 1):
        print(f'[{i}/{len(todo)}] {name}: {inspect.getdoc(load(f)).splitlines()[0]}', flush=True)
        start = time.time()
        try: results[name] = load(f).run(args.peer)
        except Exception as e:
            failed.append(name)
            print(f'  FAILED: {type(e).__name__}: {e}', file=sys.stderr, flush=True)
            continue
        print(f'{table(name, results[name])}\n  ({time.time()-start:.0f} s)\n', flush=True)
        (out/f'{name}.json').write_text(json.dumps(dict(machine=machine(), **results[name]), indent=1), encoding='utf-8')
    lines, verdicts = judge(results)
    if lines: print('Goals', *lines, sep='\n')
    if not args.peer: print('Ratios to fastai need an interpreter that has it: make bench PEER=/path/to/python')
    (out/'summary.json').write_text(json.dumps(dict(machine=machine(), goals=verdicts, failed=failed), indent=1), encoding='utf-8')
    return 1 if failed else 0


if __name__ == '__main__': sys.exit(main())
