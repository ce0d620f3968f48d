"""Kill what textnb does, again and again, and look whether anything was lost: `make kill`, or `python tools/kill_test.py [KILLS] [--scene NAME] [--seed N]`

A *scene* is some work that goes on and on, and a check of what is there when it was killed. For every kill a process is started that does the work;
after a random while it gets SIGKILL (now and then SIGTERM or SIGHUP). Then its check runs, as the next user would: nothing that was there before may be lost, nothing may be half,
and after one more run of the work no temporary file, no lock and no process may be left.

A new scene is a class with `setup`, `work` and `check` and the decorator `@scene`; see `Store`, which is the shortest.
"""
import argparse
import os
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.update(OMP_NUM_THREADS='1', TEXTNB_PROGRESS='0')

import numpy as np, pandas as pd, torch
from tqdm import tqdm

from textnb.base import load_archive, set_seed
from textnb.learn import load_learner, text_classifier_learner
from textnb.models import AWD_LSTM
from textnb.panels import CleaningDesk
from textnb.text import TokenStore, Tokenizer, build_store, untar_data
from textnb.toys import ToyLM, one_word_data, toy_stream
from textnb.train import CheckpointCallback, CSVLogger, GradientClipping, Learner

SCENES = {}
patience = 15 # seconds that children have to notice the end of their parent

def scene(cls):
    "Register a class with `setup(folder)`, `work(told)` and `check(lines)`"
    SCENES[cls.__name__.lower()] = cls
    return cls

def names(folder): return sorted(os.listdir(folder))

def same(found, wanted, what):
    "Fail unless both are equal"
    if found!=wanted: raise AssertionError(f'{what}: {str(found)[:300]}, and not {str(wanted)[:300]}')

# ---- scenes

@scene
class Store:
    "A store is saved over an old one"
    longest = .1 # seconds until the kill, at most
    def setup(self, folder):
        self.file = folder/'s'
        self.stores = [TokenStore(np.full(n*1000, n, np.uint16), np.arange(n+1)*1000) for n in (300, 700)]
        self.stores[0].save(self.file)

    def work(self, told):
        "Goes on until it is killed; what is written to the file `told` comes to `check` as lines"
        while True:
            for store in self.stores: store.save(self.file)

    def check(self, lines):
        "Raises an error if something was lost; `lines` are what `work` told"
        store = TokenStore.open(self.file, check=True)
        if not any(store==o for o in self.stores): raise AssertionError(f'{store} was never saved')
        self.stores[0].save(self.file)
        same(names(self.file.parent), ['s'], 'files')

@scene
class Cache:
    "A cached store is built by two workers"
    longest = .6
    n = 0
    def setup(self, folder): self.cache = folder/'cache'
    def build(self, n, **kwargs):
        texts = [f'text {i%97} of {n}' for i in range(3000)]
        return build_store(texts, Tokenizer(), chunksize=100, pbar=False, **kwargs)[0]

    def work(self, told):
        while True:
            told.write(f'{self.n}\n')
            self.build(self.n, cache=self.cache, n_workers=2)
            self.n += 1

    def check(self, lines):
        n = int(lines[-1]) if lines else 0
        with warnings.catch_warnings():
            warnings.simplefilter('error') # a damaged store would be told
            same(self.build(n, cache=self.cache), self.build(n, n_workers=0), 'store')
        left = [o for o in names(self.cache) if not o.endswith('.store')]
        same(left, [], 'leftovers')
        self.n = n+1

@scene
class Data:
    "A data set is made anew from its archive"
    longest = .15
    def setup(self, folder):
        self.home = folder/'home'
        os.environ['TEXTNB_HOME'] = str(self.home)
        self.archive = folder/'letters.tgz'
        (folder/'letters').mkdir()
        for i in range(60): (folder/'letters'/f'{i}.txt').write_text(f'{i}\n'*200)
        with tarfile.open(self.archive, 'w:gz') as t: t.add(folder/'letters', 'letters')
        self.files = {f.name: f.read_text() for f in (folder/'letters').iterdir()}
        untar_data(self.archive.as_uri())

    def work(self, told):
        while True: untar_data(self.archive.as_uri(), force_download=True)

    def whole(self):
        got = {f.name: f.read_text() for f in untar_data(self.archive.as_uri()).iterdir()}
        same(got, self.files, 'data set')

    def check(self, lines):
        aside = self.archive.with_suffix('.aside')
        self.archive.rename(aside) # what is there must do, without any source
        self.whole()
        aside.rename(self.archive)
        untar_data(self.archive.as_uri(), force_download=True)
        self.whole()
        same([names(self.home/o) for o in ('data', 'archive')], [['letters'], ['letters.tgz']], 'files')

@scene
class Training:
    "A training with checkpoints, taken up again, ends with the same weights to the bit"
    longest = 1.2
    def setup(self, folder):
        self.folder = folder
        self.learner(folder/'whole').fit_one_cycle(4, .02, callbacks=self.callbacks())
        self.want = self.end(folder/'whole')

    def callbacks(self): return [CheckpointCallback(5), CSVLogger()]
    def learner(self, path, seed=0):
        set_seed(seed)
        self.learn = Learner(toy_stream(path), ToyLM(seed), callbacks=[GradientClipping(.1)], silent=True, add_time=False)
        return self.learn

    def end(self, path):
        self.learn.save('end')
        weights = load_archive(path/'models'/'end.tnb').tensors
        return {k: v.numpy().tobytes() for k,v in weights.items()}, (path/'history.csv').read_bytes()

    def work(self, told):
        path = self.folder/'cut'
        shutil.rmtree(path, ignore_errors=True)
        self.learner(path).fit_one_cycle(4, .02, callbacks=self.callbacks())
        self.end(path)
        told.write('done\n')
        time.sleep(60)

    def check(self, lines):
        path = self.folder/'cut'
        if not (path/'models'/'checkpoint.tnb').exists(): return # killed before the first one
        self.learner(path, seed=77).resume()
        same(self.end(path), self.want, 'weights and log')
        same(names(path/'models'), ['checkpoint.tnb', 'end.tnb'], 'files')

@scene
class Export:
    "A model is exported over an old one"
    longest = .15
    def setup(self, folder):
        self.file = folder/'model.tnb'
        data = one_word_data(40)
        self.learns = []
        for seed in (0, 1):
            set_seed(seed)
            config = dict(emb_sz=8, n_hid=8, n_layers=1)
            self.learns.append(text_classifier_learner(data, AWD_LSTM, config=config, pretrained=False, silent=True))
        self.learns[0].export(self.file)
        self.want = []
        for o in self.learns: self.want.append(o.predict('a great film')[2])

    def work(self, told):
        while True:
            for o in self.learns: o.export(self.file)

    def check(self, lines):
        got = load_learner(self.file).predict('a great film')[2]
        if not any(torch.allclose(got, o) for o in self.want): raise AssertionError(f'the model says {got}')
        self.learns[0].export(self.file)
        same(names(self.file.parent), ['model.tnb'], 'files')

@scene
class Journal:
    "Decisions at the cleaning desk: what was acknowledged is in the journal"
    longest = .2
    def setup(self, folder):
        self.folder = folder
        self.table = pd.DataFrame(dict(text=[f'text {i}' for i in range(2000)], label=['neg', 'pos']*1000))

    def desk(self): return CleaningDesk(self.table, self.folder/'journal')
    def work(self, told):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        desk = self.desk()
        for row in range(len(self.table)):
            desk.drop(row)
            told.write(f'{row}\n')
        time.sleep(60)

    def check(self, lines):
        found = self.desk().to_frame()
        dropped = set(found.row[found['drop'].astype(bool)]) if len(found) else set()
        lost = set(map(int, lines))-dropped
        same(sorted(lost), [], 'decisions that were acknowledged and are not there')

# ---- the killing

def group_of(pid):
    "The living processes of the group `pid`"
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try: fields = stat.read_text().rpartition(')')[2].split()
        except OSError: continue
        if int(fields[2])==pid and fields[0] not in 'ZX': found.append(int(stat.parent.name))
    return found

def child(work, told):
    "The process that is killed"
    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2): os.dup2(null, fd)
    code = 1
    try:
        with open(told, 'w', buffering=1, encoding='utf-8') as f: work(f)
    except BaseException: Path(told).with_suffix('.error').write_text(traceback.format_exc(), encoding='utf-8')
    finally: os._exit(code)

def kill_once(o, told, wait, sig):
    "Start the work of scene `o`, send `sig` after `wait` seconds; processes that did not end with it"
    pid = os.fork()
    if pid==0: child(o.work, told)
    try: os.setpgid(pid, pid)
    except OSError: pass # it was quicker
    time.sleep(wait)
    os.kill(pid, sig)
    os.waitpid(pid, 0)
    end = time.monotonic()+patience
    while (left := group_of(pid)) and time.monotonic()<end: time.sleep(.02)
    for p in left: os.kill(p, signal.SIGKILL)
    return left

def run_scene(name, kills, rng):
    "Kill scene `name` so many times; (orphans, what went wrong)"
    orphans, wrong = 0, []
    with tempfile.TemporaryDirectory(prefix='textnb-kill-', ignore_cleanup_errors=True) as d:
        o = SCENES[name]()
        (Path(d)/'work').mkdir()
        o.setup(Path(d)/'work')
        told = Path(d)/'told.txt'
        for k in range(kills):
            told.write_text('')
            wait = rng.uniform(0, o.longest)
            sig = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)[k%4]
            orphans += len(kill_once(o, told, wait, sig))
            error = told.with_suffix('.error')
            try:
                if error.exists(): raise AssertionError(f'the work ended by itself: {error.read_text()}')
                o.check([line[:-1] for line in told.read_text(encoding='utf-8').splitlines(keepends=True) if line.endswith('\n')])
            except Exception as e: wrong.append(f'kill {k} ({sig.name} after {wait:.3f} s): {type(e).__name__}: {e}')
            error.unlink(missing_ok=True)
    return orphans, wrong

def main():
    p = argparse.ArgumentParser(description='Kill what textnb does, and look whether anything was lost')
    p.add_argument('kills', type=int, nargs='?', default=200, help='how many, over all scenes')
    p.add_argument('--scene', action='append', choices=list(SCENES), help='only this one; may be given several times')
    p.add_argument('--seed', type=int, default=None, help='of the moments')
    args = p.parse_args()
    if not hasattr(os, 'fork') or not Path('/proc/self/stat').exists(): sys.exit('the kill test needs Linux')
    for sig in (signal.SIGTERM, signal.SIGHUP): signal.signal(sig, signal.SIG_DFL) # `nohup` ignores one, and children would too
    tqdm.set_lock(threading.RLock()) # its own is shared with forked processes, and one that is killed may hold it
    tqdm.monitor_interval = 0
    torch.set_num_threads(1)
    seed = random.randrange(10**6) if args.seed is None else args.seed
    rng, chosen, bad = random.Random(seed), args.scene or list(SCENES), 0
    print(f'{args.kills} kills, seed {seed}')
    for i,name in enumerate(chosen):
        kills = args.kills//len(chosen)+(i<args.kills%len(chosen))
        start = time.monotonic()
        orphans, wrong = run_scene(name, kills, rng)
        bad += orphans+len(wrong)
        print(f'  {name:10} {kills:4} kills, {len(wrong)} wrong, {orphans} orphans ({time.monotonic()-start:.0f} s)', flush=True)
        for o in wrong[:5]: print(f'    {o}')
    print('nothing was lost' if not bad else 'something was lost')
    return int(bad>0)

if __name__=='__main__': sys.exit(main())
