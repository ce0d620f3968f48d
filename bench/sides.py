"""What the benches share: a clock, sides that take turns in processes of their own, ratios, and one command line.

A bench has functions that measure a side and return its figures as a dict. `take_turns` runs each of them in a process of its own, in turn, so that a busy machine slows all of them alike,
and keeps the best of each figure. Figures whose name ends in `_ms` are better when they are small, all others when they are large."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time


def seconds(f, n=2, warm_up=1):
    "Shortest of `n` runs of `f`, after `warm_up` that do not count; with BENCH_CLOCK=cpu, processor time"
    clock = time.process_time if os.environ.get('BENCH_CLOCK')=='cpu' else time.perf_counter
    times = []
    for _ in range(n+warm_up):
        t = clock()
        f()
        times.append(clock()-t)
    return min(times[warm_up:])


def measure(file, side, data=None, python=sys.executable):
    "Figures of `side` of the bench `file`, taken in a process of its own by the interpreter `python`; `data` is a file that the side reads"
    env = {**os.environ, 'PYTHONWARNINGS': 'ignore', 'TEXTNB_PROGRESS': '0'}
    cmd = [python, os.path.abspath(file), '--side', side, *(['--data', os.path.abspath(data)] if data else [])]
    with tempfile.TemporaryDirectory() as d: res = subprocess.run(cmd, capture_output=True, text=True, env=env, cwd=d)
    if res.returncode: raise RuntimeError(f'the measurement of {side} with {python} failed:\n{res.stderr[-2000:]}')
    return json.loads(res.stdout.strip().splitlines()[-1])


def less_is_better(name):
    "Is a small value of the figure `name` a good one?"
    return name.endswith('_ms')


def best(a, b):
    "The better of two measurements, figure by figure"
    return {k: (min if less_is_better(k) else max)(v, b.get(k, v)) for k, v in a.items()}


def ratio(a, b):
    "How many times better than `b` the figures `a` are, those that both have"
    return {k: b[k]/v if less_is_better(k) else v/b[k] for k, v in a.items() if k in b}


def take_turns(file, own, peer=None, rounds=1, data=None, warm_up=0):
    "Figures of the sides `own` of the bench `file`, and of `fastai` by the interpreter `peer`; with a peer, also the `ratio` of `textnb` to it"
    sides = {**dict.fromkeys(own, sys.executable), **({'fastai': peer} if peer else {})}
    res = {}
    for i in range(rounds+warm_up):
        for side, python in sides.items():
            got = measure(file, side, data, python)
            if i>=warm_up: res[side] = best(got, res.get(side, {}))
    if peer: res['ratio'] = ratio(res['textnb'], res['fastai'])
    return res


def main(doc, run, sides=None, rounds=1, **options):
    "The command line of a bench: prints `run(peer, rounds, …)` as JSON. `options` are more arguments of `run`: name=(default, help)"
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument('--peer', help='interpreter with fastai 2.8.12, to be measured beside textnb')
    parser.add_argument('--rounds', type=int, default=rounds, help='turns of each side; the best counts')
    parser.add_argument('--clock', choices=['wall', 'cpu'], default=os.environ.get('BENCH_CLOCK', 'wall'), help='what is timed')
    parser.add_argument('--side', choices=sides, help=argparse.SUPPRESS)
    parser.add_argument('--data', help=argparse.SUPPRESS)
    for k, (default, words) in options.items(): parser.add_argument(f'--{k}', type=type(default), default=default, help=words)
    args = vars(parser.parse_args())
    os.environ['BENCH_CLOCK'] = args.pop('clock')
    side, data = args.pop('side'), args.pop('data')
    if side: print(json.dumps(sides[side](data) if data else sides[side]()))
    else: print(json.dumps(run(**args), indent=1))
