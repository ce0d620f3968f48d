"Nothing that came from a table, a file's name or an argument gives an order to the terminal"
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from types import SimpleNamespace

import pandas as pd
import pytest

from textnb.base import Html, listed, progress, readable
from textnb.command import main

EVIL = '\x1b[31m\x1b]0;gone\x07\x9b2J\u202etxt\u2066\u2028\x85'
ORDERS = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]')

@contextlib.contextmanager
def went(folder):
    "A block that runs in `folder`"
    old = os.getcwd()
    os.chdir(folder)
    try: yield
    finally: os.chdir(old)

def alone(*args, cwd):
    "Run the command in a process of its own"
    return subprocess.run([sys.executable, '-m', 'textnb', *map(str, args)], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding='utf-8', timeout=300)

def textnb(*args, cwd):
    "Run the command here"
    out,err = io.StringIO(),io.StringIO()
    with went(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: code = main([str(o) for o in args])
        except SystemExit as e: code = e.code
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())

@pytest.fixture(scope='module')
def work(tmp_path_factory):
    "A table whose classes and texts give orders, and a model of it"
    d = tmp_path_factory.mktemp('terminal')
    rows = [(f'{w} film {EVIL} {i}', label) for i in range(30) for w,label in (('great', f'pos{EVIL}a'), ('dull', 'neg\x1b[0m'))]
    pd.DataFrame(rows, columns=['text', 'label']).to_csv(d/'t.csv', index=False)
    res = alone('train', 't.csv', '--epochs', 1, '--out', 'm.tnb', cwd=d)
    assert res.returncode==0, res.stderr
    assert not ORDERS.search(res.stdout+res.stderr) and '\\x1b[31m' in res.stdout+res.stderr
    return d

def silent(res, code=0):
    "The result of a command, in which there is no order"
    assert res.returncode==code, res.stderr
    assert not ORDERS.search(res.stdout+res.stderr), ORDERS.findall(res.stdout+res.stderr)
    return res

@pytest.mark.parametrize('args', [('predict', 'm.tnb', f'a film {EVIL}\r'), ('predict', 'm.tnb', '--csv', 't.csv'), ('explain', 'm.tnb', f'great film {EVIL}'), ('evaluate', 'm.tnb', 't.csv'), ('info', 'm.tnb'),
    ('tokenize', 't.csv', '--min-freq', '1', '--workers', '1')])
def test_results(work, args):
    "Results of each command are text alone, and the escapes can be read"
    silent(textnb(*args, cwd=work))

@pytest.mark.parametrize('args,code', [(('predict', f'no{EVIL}.tnb', 'x'), 1), (('evaluate', 'm.tnb', f'{EVIL}.csv'), 1), (('explain', 'm.tnb', 'x', '--class', EVIL), 1), (('evaluate', 'm.tnb', 't.csv', '--label-col', EVIL), 1),
    (('predict', 'm.tnb', 'x', f'--{EVIL}'), 2), ((EVIL,), 2), (('train', 't.csv', '--epochs', EVIL), 2), (('panel', 'm.tnb', '--panel', EVIL), 1), (('predict', f'no{EVIL}.tnb', 'x', '--debug'), 1)])
def test_errors(work, args, code):
    "What is wrong is named, and not obeyed"
    assert '\\x1b[31m' in silent(textnb(*args, cwd=work), code).stderr

def test_a_process_of_its_own(work):
    "The same where the command has a process of its own, warnings included"
    silent(alone('predict', 'm.tnb', f'a film {EVIL}', '--format', 'table', cwd=work))
    assert '\\x1b[31m' in silent(alone('predict', f'no{EVIL}.tnb', 'x', '--debug', cwd=work), 1).stderr

def test_names_of_files(work):
    "A file whose name gives orders is read and named"
    name = f'{EVIL.replace("/", "")}.csv'
    shutil.copy(work/'t.csv', work/name)
    silent(textnb('evaluate', 'm.tnb', name, cwd=work))
    assert 'written' in silent(textnb('predict', 'm.tnb', '--csv', name, '--format', 'csv', '--out', f'{name}.out', cwd=work)).stderr

def test_json_says_the_same(work):
    "JSON holds escapes of its own: what is read from it is what the table says"
    res = silent(textnb('predict', 'm.tnb', f'a film {EVIL}', '--format', 'json', cwd=work))
    assert json.loads(res.stdout)[0]['text']==f'a film {EVIL}'
    found = json.loads(silent(textnb('explain', 'm.tnb', f'great {EVIL}', '--json', cwd=work)).stdout)
    assert found['pred'] in (f'pos{EVIL}a', 'neg\x1b[0m')

def test_tables_for_programs(work):
    "A CSV on its way into a pipe or a file is data, and stays as it is"
    res = textnb('predict', 'm.tnb', '--csv', 't.csv', '--format', 'csv', '--out', 'p.csv', cwd=work)
    assert res.returncode==0 and not ORDERS.search(res.stderr)
    want = pd.read_csv(work/'t.csv', dtype=str).text.tolist()
    assert pd.read_csv(work/'p.csv', dtype=str).text.tolist()==want

def test_colours(work):
    "The colours of shaded texts are ours, and nothing else is let through"
    res = textnb('explain', 'm.tnb', f'great film {EVIL} dull', '--color', 'always', cwd=work)
    assert '\x1b[97;48;5;' in res.stdout
    assert not ORDERS.search(re.sub('\x1b\\[(0|97;48;5;[0-9]+)m', '', res.stdout))

def test_the_terminal_itself(work):
    "On a terminal a CSV is filtered as well"
    pty = pytest.importorskip('pty')
    master,slave = pty.openpty()
    p = subprocess.Popen([sys.executable, '-m', 'textnb', 'predict', 'm.tnb', f'a film {EVIL}', '--format', 'csv'], cwd=work, stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.DEVNULL)
    os.close(slave)
    got = b''
    try:
        while part := os.read(master, 4096): got += part
    except OSError: pass # the other end was closed
    os.close(master)
    assert p.wait()==0
    text = got.decode().replace('\r\n', '\n')
    assert 'a film \\x1b[31m' in text and not ORDERS.search(text)

def test_reprs():
    "Lists, bunches and tables of results, as Python shows them in a terminal"
    assert not ORDERS.search(repr(Html('', EVIL))+listed([EVIL, EVIL])+readable(EVIL))
    every = ''.join(map(chr, range(0x3000)))
    assert {unicodedata.category(c) for c in readable(every)}.isdisjoint({'Zl', 'Zp', 'Cs'})
    assert [c for c in readable(every) if unicodedata.category(c)=='Cc']==['\t', '\n']

def test_bars(monkeypatch):
    "What a progress bar is about is text as well"
    monkeypatch.setenv('TEXTNB_PROGRESS', '1')
    monkeypatch.delenv('IN_TEST', raising=False)
    out = io.StringIO()
    list(progress(range(2), desc='a\x07\x9b2J', file=out))
    assert r'a\x07\u009b2J' in out.getvalue() and '\x07' not in out.getvalue()
