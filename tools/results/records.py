"Records of finished jobs: one a line in a JSON file that is read by `textnb.results`, and written whole or not at all"
import base64
import json
import os
import platform
import time
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from textnb.base import atomic_write, locked
from textnb.results import FORMAT, check_record, read_records
from tools.results.sets import SETS

def key_of(record):
    "What tells a record from all others"
    return tuple(record[k] for k in ('set', 'method', 'fold', 'seed'))

def processor():
    "The name of this machine's processor, if the system tells it"
    try: lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError: return platform.processor() or platform.machine()
    names = [o.split(':', 1)[1].strip() for o in lines if o.startswith('model name')]
    flags = next((o for o in lines if o.startswith('flags')), '').split()
    told = [o for o in ('avx2', 'avx512f', 'amx_tile') if o in flags]
    return ' '.join([names[0] if names else platform.machine(), *told])

def versions(packages):
    "The versions of Python, textnb and `packages`, of those that are installed"
    import textnb
    found = dict(python=platform.python_version(), textnb=textnb.__version__)
    for o in packages:
        try: found[o] = version(o)
        except PackageNotFoundError: pass
    return found

def macro_f1(true, said):
    "The mean over the classes in `true` of the harmonic mean of precision and recall"
    scores = []
    for c in sorted(set(true)):
        hits = sum(t==c and s==c for t, s in zip(true, said))
        scores.append(2*hits/(true.count(c)+said.count(c)))
    return sum(scores)/len(scores)

def log_loss(classes, probabilities, true):
    "The mean of -log of what the right class was given; a class that was not in the training texts counts as one in a billion"
    at = {c: i for i, c in enumerate(classes)}
    p = np.array([row[at[t]] if t in at else 0 for row, t in zip(probabilities, true)])
    return float(-np.log(np.clip(p, 1e-9, 1)).mean())

def make_record(job, outcome, train, test, unlabelled=()):
    "What `outcome` comes to on the table `test`"
    true = test.label.tolist()
    said = [outcome.classes[i] for i in outcome.probabilities.argmax(1)]
    right = np.array([t==s for t, s in zip(true, said)])
    texts = zlib.crc32('\n'.join(f'{t}\t{c}' for t, c in zip(test.text, test.label)).encode())
    return check_record(dict(
        set=job.set, method=job.method, fold=job.fold, seed=job.seed, folds=SETS[job.set].folds, labels=SETS[job.set].labels,
        accuracy=round(float(right.mean()), 6), macro_f1=round(macro_f1(true, said), 6), loss=round(log_loss(outcome.classes, outcome.probabilities, true), 6),
        seconds=round(outcome.seconds, 2), cpu_seconds=round(outcome.cpu_seconds, 2), cpu_seconds_test=round(outcome.cpu_seconds_test, 3),
        size_mb=round(outcome.size_mb, 2),
        n_train=len(train), n_unlabelled=len(unlabelled), n_test=len(test), n_classes=len(set(train.label)), test_crc=texts,
        settings=outcome.settings, versions=versions(outcome.packages), processor=processor(),
        threads=int(os.environ.get('OMP_NUM_THREADS', 0)) or os.cpu_count(), date=time.strftime('%Y-%m-%d'),
        right=base64.b64encode(np.packbits(right).tobytes()).decode()))

class Records:
    "The file of all records; several processes may add to it"
    def __init__(self, file): self.file = Path(file)

    def read(self):
        "All records by key; raises a ValueError that names a damaged one"
        return {key_of(o): o for o in read_records(self.file)} if self.file.exists() else {}

    def add(self, record):
        "Put `record` in, in place of an older one of the same job"
        with locked(self.file):
            records = {**self.read(), key_of(record): record}
            lines = ',\n'.join(json.dumps(records[k], ensure_ascii=False) for k in sorted(records))
            with atomic_write(self.file) as f: f.write(f'{{"format": "{FORMAT}", "records": [\n{lines}\n]}}\n'.encode())
