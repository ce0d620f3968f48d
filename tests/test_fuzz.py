"`make fuzz` for a moment: a short round over every reader, and the tool itself, which has to notice what it looks for"
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tools import fuzz

TARGETS = ['learner','lm','encoder','weights','ensemble','bunch','sentencepiece','tokenizers','checkpoint','pth','old_pth','words','old_ids','tar','zip',
    'vocab','csv','tsv','csv_gz','store','journal','texts']

def test_a_short_round(tmp_path):
    "Ten files of each kind: all are loaded, or refused by a sentence that names them"
    env = dict(os.environ, OMP_NUM_THREADS='1', TEXTNB_PROGRESS='0', PYTHONPATH=str(ROOT))
    command = [sys.executable, '-m', 'tools.fuzz', '--seed', '20', '--cases', '10', '--time', '100', '--out', str(tmp_path/'found'), '--only', *TARGETS]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode==0 and f'{10*len(TARGETS)} files, 0 findings' in done.stdout, done.stdout+done.stderr
    assert not (tmp_path/'found').exists()

@pytest.fixture
def good(tmp_path):
    "A file to change, in a folder for cases"
    (tmp_path/'seeds').mkdir()
    f = tmp_path/'seeds'/'some.json'
    f.write_text(json.dumps(dict(format='textnb.vocab', itos=['a','b','c'])))
    return dict(vocab=f)

def memory(f): return bytes(2**33)
def bare(f): return {}['x']
def nameless(f): raise ValueError('something is wrong')
def named(f): raise ValueError(f'{f} is wrong')
def runs(f): return os.system('true')
def outside(f): return open(ROOT/'evil.txt', 'w').close()
def passwords(f): return open('/etc/passwd').read()
def dies(f): os._exit(3)
def slow(f):
    while True: pass

@pytest.mark.parametrize('read, told', [(memory, 'too much memory'), (bare, 'a bare KeyError'), (nameless, 'does not name the file'), (runs, 'code was run'), (outside, 'written outside'),
    (passwords, '/etc/passwd was read'), (dies, 'the process died'), (slow, 'it took more than'), (named, 'refused'), (str, 'loaded')])
def test_what_the_tool_notices(good, tmp_path, monkeypatch, read, told):
    monkeypatch.setattr(fuzz, 'SECONDS', .2)
    (k, what), = fuzz.run_batch('vocab', read, 5, [3], good, tmp_path)
    assert k==3 and told in what and what.startswith('FOUND')==(read not in (named, str))
    assert not (ROOT/'evil.txt').exists()

def test_the_same_seed_makes_the_same_files(good, tmp_path):
    def make(seed, k): return fuzz.make_case('vocab', seed, k, good, tmp_path).read_bytes()
    assert [make(1, k) for k in range(30)]==[make(1, k) for k in range(30)]
    assert len({make(1, k) for k in range(30)})>20 and make(1, 4)!=make(2, 4)
