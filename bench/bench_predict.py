"""Serving a classifier: documents a second of `get_preds` and the latency of `predict` on one short text, beside fastai 2.8.12 if an interpreter is given.

    python bench/bench_predict.py [--peer PYTHON_WITH_FASTAI] [--rounds 2]

Both sides read the same table of docstrings, tokenize it themselves, and run an untrained AWD-LSTM 400/1152/3 with its classifier head. Each side runs in a process of its own and they take turns."""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time

N_TRAIN, N_VALID, BS = 300, 256, 64
SHORT = 'A short text of about fifteen words, such as a person might type into it.'


def write_table(path):
    "A table of docstrings with text, label and is_valid"
    from textnb.datasets import docstrings
    df = docstrings().sample(frac=1, random_state=0)[:N_TRAIN+N_VALID]
    with open(path, 'w', newline='', encoding='utf-8') as f:
        w = csv.writer(f)
        w.writerow(['text', 'label', 'is_valid'])
        for i, (t, l) in enumerate(zip(df.text, df.label)): w.writerow([t, l, i >= N_TRAIN])


def figures(get_preds, predict):
    "Documents a second of `get_preds` and milliseconds of `predict`, each the best of a few runs after one that warms up"
    def best(f, n):
        times = []
        for i in range(n+1):
            t = time.perf_counter()
            f()
            if i: times.append(time.perf_counter()-t)
        return min(times)
    return {'get_preds_docs_s': N_VALID/best(get_preds, 2), 'predict_ms': 1000*best(lambda: predict(SHORT), 12)}


def side_textnb(path):
    "Figures of this package"
    import pandas as pd
    from textnb.all import AWD_LSTM, TextClasDataBunch, text_classifier_learner
    df = pd.read_csv(path)
    data = TextClasDataBunch.from_df('.', df[~df.is_valid], df[df.is_valid], text_cols='text', label_cols='label', bs=BS)
    learn = text_classifier_learner(data, AWD_LSTM, pretrained=False)
    return figures(learn.get_preds, learn.predict)


def side_fastai(path):
    "Figures of fastai"
    import pandas as pd
    from fastai.text.all import AWD_LSTM, TextDataLoaders, text_classifier_learner
    dls = TextDataLoaders.from_df(pd.read_csv(path), text_col='text', label_col='label', valid_col='is_valid', bs=BS)
    learn = text_classifier_learner(dls, AWD_LSTM, pretrained=False)
    def quiet(f):
        def _f(*args):
            with learn.no_bar(), learn.no_logging(): return f(*args)
        return _f
    return figures(quiet(learn.get_preds), quiet(learn.predict))


SIDES = dict(textnb=side_textnb, fastai=side_fastai)


def measure(side, table, python=sys.executable):
    "Figures of `side` on the file `table`, taken in a process of its own by the interpreter `python`"
    env = {**os.environ, 'PYTHONWARNINGS': 'ignore', 'TEXTNB_PROGRESS': '0'}
    with tempfile.TemporaryDirectory() as d:
        cmd = [python, os.path.abspath(__file__), '--side', side, '--table', os.path.abspath(table)]
        res = subprocess.run(cmd, capture_output=True, text=True, env=env, cwd=d)
    if res.returncode: raise RuntimeError(f'the measurement of {side} with {python} failed:\n{res.stderr[-2000:]}')
    return json.loads(res.stdout.strip().splitlines()[-1])


def run(peer=None, rounds=2)->dict:
    "Figures of all sides, and ratios (above 1 is better) to `peer`, an interpreter that has fastai 2.8.12"
    sides = {'textnb': sys.executable, **({'fastai': peer} if peer else {})}
    res = {}
    with tempfile.TemporaryDirectory() as d:
        table = os.path.join(d, 'docstrings.csv')
        write_table(table)
        for _ in range(rounds):
            for side, python in sides.items():
                got, old = measure(side, table, python), res.get(side, {})
                res[side] = {k: (min if k.endswith('_ms') else max)(v, old.get(k, v)) for k, v in got.items()}
    if peer:
        a, b = res['textnb'], res['fastai']
        res['ratio'] = {k: (b[k]/v if k.endswith('_ms') else v/b[k]) for k, v in a.items()}
    return res


def main():
    "Print the figures as JSON"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--peer', help='interpreter with fastai 2.8.12')
    parser.add_argument('--rounds', type=int, default=2, help='turns of each side; the best counts')
    parser.add_argument('--side', choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument('--table', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side: return print(json.dumps(SIDES[args.side](args.table)))
    print(json.dumps(run(args.peer, args.rounds), indent=1))


if __name__ == '__main__': main()
