"""Measure what is missing: python -m tools.results [--data FOLDER] [--only mr,trec] [--method textnb] [--folds 0,1] [--seeds 0]

--list shows what is done and what is missing, --again measures anew what is done. See tools/results/__init__.py for the data sets."""
import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path: sys.path.insert(0, str(ROOT))
os.environ.setdefault('TEXTNB_PROGRESS', '0')

import numpy as np
from filelock import FileLock, Timeout

from textnb.base import atomic_write, did_you_mean
from tools.results import baselines, sets
from tools.results.baselines import Outcome
from tools.results.jobs import METHODS, Job, plan
from tools.results.records import Records, make_record

class NotYet(Exception): "A job that waits for others"

def probabilities_file(folder, job): return Path(folder)/f'{job.set}-{job.method}-{job.fold}-{job.seed}.npz'

def keep(folder, job, outcome, record):
    "Write what `outcome` says beside the records, for ensembles"
    file = probabilities_file(folder, job)
    arrays = dict(probabilities=outcome.probabilities.astype(np.float32), classes=np.array(outcome.classes), test_crc=record['test_crc'])
    with atomic_write(file) as f: np.savez_compressed(f, **arrays)

def both(job, folder, records):
    "The mean of what the models of the two directions say: their probabilities and records are there, or NotYet is raised"
    parts = [Job(job.set, m, job.fold, job.seed) for m in ('textnb', 'backward')]
    missing = [o.name for o in parts if o.key not in records or not probabilities_file(folder, o).exists()]
    if missing: raise NotYet(f'waits for {" and ".join(missing)} (records, and probabilities in {folder})')
    ps, rs = [np.load(probabilities_file(folder, o)) for o in parts], [records[o.key] for o in parts]
    if ps[0]['classes'].tolist()!=ps[1]['classes'].tolist() or any(p['test_crc']!=r['test_crc'] for p, r in zip(ps, rs)):
        raise ValueError(f'{folder} has probabilities of other texts or classes for {job.name}: delete them, and measure both again')
    total = {k: sum(r[k] for r in rs) for k in ('seconds', 'cpu_seconds', 'cpu_seconds_test', 'size_mb')}
    p = np.mean([p['probabilities'] for p in ps], axis=0)
    return Outcome(ps[0]['classes'].tolist(), p, **total, settings=rs[0]['settings'], packages=['torch'])

def outcome_of(job, data, folder, records):
    "Do the work of `job`; raises an ImportError if something has to be installed"
    if job.method=='both': return both(job, folder, records)
    train, test, unlabelled = data
    if not METHODS[job.method].ours: return getattr(baselines, job.method)(train, test, job.seed)
    from tools.results import ours
    return getattr(ours, job.method)(train, test, job.seed, unlabelled)

class Runner:
    "Does jobs, one after the other"
    def __init__(self, records, folder, data=None, again=False):
        self.records, self.folder, self.data, self.again = records, Path(folder), data, again
        self.told = set()
        self.failed = self.skipped = 0
        self.folder.mkdir(parents=True, exist_ok=True)

    def tell(self, words):
        "Say something once"
        if words not in self.told: print(words, flush=True)
        self.told.add(words)

    def skip(self, words):
        "Say once why a job is left out"
        self.skipped += 1
        self.tell(f'skipped: {words}')

    def do(self, job):
        "Measure `job`, and keep its record"
        data = sets.load(job.set, job.fold, job.seed, self.data)
        outcome = outcome_of(job, data, self.folder, self.records.read())
        record = make_record(job, outcome, *data)
        keep(self.folder, job, outcome, record)
        self.records.add(record)
        r = record
        print(f'{job.name}: accuracy {r["accuracy"]:.4f}, F1 {r["macro_f1"]:.4f}, loss {r["loss"]:.3f}; {r["seconds"]:,.0f} s, {r["size_mb"]:.1f} MB', flush=True)

    def attempt(self, job):
        "Measure `job`, or say why not"
        try: self.do(job)
        except sets.NotThere as e: self.skip(f'{job.set}: {e}')
        except ImportError as e: self.skip(f'{job.method}: {e} (pip install {METHODS[job.method].needs})')
        except NotYet as e: self.skip(f'{job.name} {e}')
        except Exception as e:
            self.failed += 1
            print(f'FAILED: {job.name}: {type(e).__name__}: {e}', file=sys.stderr, flush=True)

    def run(self, jobs):
        "Do those of `jobs` that are not done and that no other process is at"
        for job in jobs:
            lock = FileLock(self.folder/f'.{probabilities_file("", job).stem}.lock', blocking=False)
            try:
                with lock:
                    if self.again or job.key not in self.records.read(): self.attempt(job)
            except Timeout: self.skip(f'{job.name}: another process is at it')

def table(jobs, done):
    "A row for each set, a column for each method: how many jobs are done, of how many"
    methods = [m for m in METHODS if any(o.method==m for o in jobs)]
    rows = [['', *methods]]
    for s in [s for s in sets.SETS if any(o.set==s for o in jobs)]:
        some = {m: [o for o in jobs if (o.set, o.method)==(s, m)] for m in methods}
        rows.append([s, *(f'{sum(o.key in done for o in some[m])}/{len(some[m])}' if some[m] else '' for m in methods)])
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return '\n'.join('  '.join(c.ljust(w) if i==0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))).rstrip() for r in rows)

def words(text, known, what, parser):
    "The words of the option `text`, of those that are `known`"
    res = [o for o in text.split(',') if o]
    for o in res:
        if o not in known: parser.error(f'no {what} called {o!r}.{did_you_mean(o, list(known))} There are {", ".join(known)}')
    return res

def numbers(text, what, most, parser):
    "The whole numbers of the option `text`, such as 0,1 or 0-4"
    res = []
    for o in text.split(','):
        first, _, last = o.partition('-')
        if not first.isdecimal() or not (last or first).isdecimal(): parser.error(f'{what} {text!r}: give numbers from 0, such as 0,1 or 0-4')
        res += range(int(first), int(last or first)+1)
    if not res or max(res)>most: parser.error(f'{what} {text!r}: there are 0 to {most}')
    return sorted(set(res))

def options(argv):
    "The parsed command line"
    parser = argparse.ArgumentParser(prog='tools.results', description=__doc__.splitlines()[0], epilog=__doc__.splitlines()[-1])
    parser.add_argument('--data', default=os.environ.get('TEXTNB_RESULTS_DATA'), help='folder with the data sets; by default the one named in TEXTNB_RESULTS_DATA')
    parser.add_argument('--only', help=f'sets, separated by commas: {", ".join(sets.SETS)}')
    parser.add_argument('--method', help=f'methods, separated by commas: {", ".join(METHODS)}')
    parser.add_argument('--folds', help='folds of the sets that have ten: 0,1 or 0-4; all by default')
    parser.add_argument('--seeds', help='0,1 or 0-4; by default 0, and 0-2 for sets without folds')
    parser.add_argument('--again', action='store_true', help='measure anew what is done')
    parser.add_argument('--list', action='store_true', help='show what is done and what is missing, and measure nothing')
    parser.add_argument('--out', default=ROOT/'bench'/'accuracy.json', type=Path, help='the file of all records')
    parser.add_argument('--probabilities', default=ROOT/'bench'/'results'/'probabilities', type=Path, help='folder for what the models say about the test texts')
    args = parser.parse_args(argv)
    if args.data and not Path(args.data).is_dir(): parser.error(f'--data {args.data}: there is no such folder')
    args.only = words(args.only, sets.SETS, 'data set', parser) if args.only is not None else None
    args.method = words(args.method, METHODS, 'method', parser) if args.method is not None else None
    args.folds = numbers(args.folds, '--folds', 9, parser) if args.folds is not None else None
    args.seeds = numbers(args.seeds, '--seeds', 999, parser) if args.seeds is not None else None
    args.jobs = plan(args.only, args.method, args.folds, args.seeds)
    if not args.jobs: parser.error('nothing to do: '+'; '.join(f'{m} is measured on {", ".join(METHODS[m].sets)}' for m in args.method or []))
    return args

def main(argv=None):
    "Do what is missing; 1 if something failed, 2 for a damaged file of records"
    args = options(argv)
    records = Records(args.out)
    try: done = records.read()
    except ValueError as e:
        print(e, file=sys.stderr)
        return 2
    missing = [o for o in args.jobs if o.key not in done]
    if args.list:
        print(table(args.jobs, done))
        print(f'{len(missing)} of {len(args.jobs)} are missing')
        return 0
    todo = args.jobs if args.again else missing
    start = time.time()
    print(f'{len(todo)} of {len(args.jobs)} jobs to do', flush=True)
    runner = Runner(records, args.probabilities, args.data, args.again)
    runner.run(todo)
    print(f'{len(todo)-runner.failed-runner.skipped} done, {runner.skipped} skipped, {runner.failed} failed, in {time.time()-start:,.0f} s; records in {args.out}')
    return 1 if runner.failed else 0

if __name__=='__main__': sys.exit(main())
