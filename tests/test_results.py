"`make results`: jobs that are done stay done, damaged records are refused, and the page says what the records say"
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from textnb.results import accuracy_table, compare, method_titles, read_records, right_of, set_titles, summary
from tools.results import __main__ as command
from tools.results import baselines, sets
from tools.results.baselines import Outcome
from tools.results.jobs import METHODS, Job, plan
from tools.results.records import Records, log_loss, macro_f1, make_record

@pytest.fixture
def data(tmp_path):
    "A folder with a small MR and a small TREC-6"
    rng = np.random.default_rng(0)
    def table(n): return pd.DataFrame([dict(text=f'a {w} film of the year {i%7}', label=c) for i in range(n) for w, c in [[('fine', 'pos'), ('dull', 'neg')][rng.integers(2)]]])
    for name, n in {'small_sentiment/mr_sentence_polarity': 60, 'trec/train': 40, 'trec/test': 10}.items():
        (tmp_path/'data'/name).parent.mkdir(parents=True, exist_ok=True)
        table(n).to_csv(tmp_path/'data'/f'{name}.csv', index=False)
    sets.tables.cache_clear()
    return tmp_path/'data'

@pytest.fixture
def start(tmp_path, data):
    "Runs the command on that data, with a file of records beside it"
    def run(*args): return command.main(['--data', str(data), '--out', str(tmp_path/'records.json'), '--probabilities', str(tmp_path/'p'), *args])
    run.file = tmp_path/'records.json'
    return run

pytest.importorskip('sklearn')

def test_a_second_start_does_what_is_missing(start, capsys, monkeypatch):
    "Each job is done once; what was done stays as it was"
    assert start('--only', 'mr', '--method', 'tfidf', '--folds', '0,1')==0
    assert '2 of 2 jobs to do' in capsys.readouterr().out
    first = start.file.read_text()
    asked, tfidf = [], baselines.tfidf
    monkeypatch.setattr(baselines, 'tfidf', lambda *args: asked.append(1) or tfidf(*args))
    assert start('--only', 'mr', '--method', 'tfidf', '--folds', '0-2')==0
    assert '1 of 3 jobs to do' in capsys.readouterr().out and len(asked)==1
    assert [o for o in first.splitlines() if '"fold": ' in o][0].rstrip(',') in start.file.read_text()
    start('--only', 'mr', '--method', 'tfidf', '--folds', '0', '--again')
    assert len(asked)==2 and len(read_records(start.file))==3

def test_a_killed_run_keeps_what_was_done(start, monkeypatch):
    "A record is in the file as soon as its job is done"
    tfidf = baselines.tfidf
    def once(train, test, seed):
        if start.file.exists(): raise KeyboardInterrupt
        return tfidf(train, test, seed)
    monkeypatch.setattr(baselines, 'tfidf', once)
    with pytest.raises(KeyboardInterrupt): start('--only', 'mr', '--method', 'tfidf')
    assert [o['fold'] for o in read_records(start.file)]==[0]
    monkeypatch.setattr(baselines, 'tfidf', tfidf)
    assert start('--only', 'mr', '--method', 'tfidf')==0 and len(read_records(start.file))==10

def test_one_failure_does_not_stop_the_others(start, capsys, monkeypatch):
    tfidf = baselines.tfidf
    def sometimes(train, test, seed):
        if len(train)==40: raise RuntimeError('no luck')
        return tfidf(train, test, seed)
    monkeypatch.setattr(baselines, 'tfidf', sometimes)
    assert start('--only', 'mr,trec', '--method', 'tfidf', '--folds', '0')==1
    out, err = capsys.readouterr()
    assert 'FAILED: trec tfidf seed 0: RuntimeError: no luck' in err and '1 done, 0 skipped, 1 failed' in out

@pytest.mark.parametrize('change, told', [
    (dict(accuracy=.99), '`accuracy` is 0.99'), (dict(right='!!'), 'base64'), (dict(n_test=100), '8 bits for 100 texts'),
    (dict(fold=None), "'fold' is None"), (dict(n_test=0), '0 texts')])
def test_a_damaged_record_is_refused(start, capsys, change, told):
    "By the file, the line and what is wrong; nothing is measured, nothing is lost"
    start('--only', 'mr', '--method', 'tfidf', '--folds', '0,1')
    lines = start.file.read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), **change})
    start.file.write_text('\n'.join(lines))
    capsys.readouterr()
    before = start.file.read_bytes()
    assert start('--only', 'mr', '--method', 'tfidf')==2
    err = capsys.readouterr().err
    assert 'records.json, line 3: a damaged record' in err and told in err and start.file.read_bytes()==before

@pytest.mark.parametrize('text', ['{"format": "textnb.results", "rec', '[]', '{"format": "other", "records": []}'])
def test_a_file_that_is_something_else_is_refused(start, capsys, text):
    start.file.write_text(text)
    assert start('--only', 'mr', '--method', 'tfidf')==2 and 'records.json' in capsys.readouterr().err

@pytest.mark.parametrize('args, told', [
    (['--only', 'trek'], "no data set called 'trek'. Did you mean 'trec'?"), (['--method', 'tf-idf'], "Did you mean 'tfidf'?"),
    (['--folds', '10'], 'there are 0 to 9'), (['--folds', 'x'], 'give numbers'), (['--seeds', ''], 'give numbers'), (['--seeds', '3-1'], '0 to 999'),
    (['--only', 'imdb', '--method', 'gradual'], 'nothing to do: gradual is measured on mr'), (['--data', '/no/where'], 'no such folder'), (['--quick'], 'unrecognized')])
def test_options_that_say_nothing(capsys, args, told):
    with pytest.raises(SystemExit) as e: command.main(args)
    assert e.value.code==2 and told in capsys.readouterr().err

def test_what_is_not_there_is_skipped_and_said(start, capsys, monkeypatch):
    "A set without files, and a method that is not installed"
    def absent(*args): raise ImportError('No module named fasttext')
    monkeypatch.setattr(baselines, 'fasttext', absent)
    assert start('--only', 'subj,trec', '--method', 'tfidf,fasttext', '--seeds', '0')==0
    out = capsys.readouterr().out
    assert 'skipped: subj: no small_sentiment/subjectivity (.parquet, .csv, .csv.xz) in' in out
    assert 'skipped: fasttext: No module named fasttext (pip install fasttext-numpy2-wheel)' in out and '1 done' in out

def test_the_list(start, capsys):
    start('--only', 'mr', '--method', 'tfidf', '--folds', '0')
    capsys.readouterr()
    assert start('--only', 'mr,trec', '--method', 'tfidf,both', '--list')==0
    lines = capsys.readouterr().out.splitlines()
    assert [o.split() for o in lines]==[['tfidf', 'both'], ['mr', '1/10', '0/10'], ['trec', '0/1', '0/3'], '23 of 24 are missing'.split()]

def test_both_directions_are_the_mean_of_what_was_kept(start, capsys, tmp_path):
    "The ensemble waits for its parts, and then costs nothing"
    records, folder = Records(start.file), tmp_path/'p'
    assert start('--only', 'trec', '--method', 'both', '--seeds', '0')==0
    assert 'waits for trec textnb seed 0 and trec backward seed 0' in capsys.readouterr().out
    train, test, _ = sets.load('trec', folder=start.file.parent/'data')
    one = (test.label=='pos').to_numpy()*1.
    for method, p in dict(textnb=.5*one+.3, backward=.6*one).items():
        job = Job('trec', method)
        outcome = Outcome(['neg', 'pos'], np.stack([1-p, p], 1), 2., 1., .1, 3., {})
        record = make_record(job, outcome, train, test)
        command.keep(folder, job, outcome, record)
        records.add(record)
    assert start('--only', 'trec', '--method', 'both', '--seeds', '0')==0
    record = records.read()['trec', 'both', 0, 0]
    assert (record['accuracy'], record['seconds'], record['size_mb'])==(1, 4, 6)
    np.savez(command.probabilities_file(folder, Job('trec', 'textnb')), probabilities=np.zeros((10, 2)), classes=['neg', 'pos'], test_crc=1)
    assert start('--only', 'trec', '--method', 'both', '--seeds', '0', '--again')==1
    assert 'other texts or classes' in capsys.readouterr().err

def test_figures_by_hand():
    "Four texts in three classes, of which the classifier has never seen one"
    train, test = pd.DataFrame(dict(text=['x'], label=['a'])), pd.DataFrame(dict(text=list('stuv'), label=list('aabc')))
    p = np.array([[.8, .2], [.4, .6], [.1, .9], [.5, .5]])
    record = make_record(Job('mr', 'tfidf', 3), Outcome(['a', 'b'], p, 1., 1., 1., 1., {}), train, test)
    assert record['accuracy']==.5 and right_of(record).tolist()==[True, False, True, False]
    assert macro_f1(list('aabc'), list('abba'))==pytest.approx((.5+2/3+0)/3)
    assert log_loss(['a', 'b'], p, list('aabc'))==pytest.approx(-np.log([.8, .4, .9, 1e-9]).mean())
    assert record['macro_f1']==pytest.approx((.5+2/3)/3, abs=1e-6) and record['folds']==10

def test_the_table_of_a_small_file(tmp_path):
    "By hand: 2 and 4 of 4 right, beside 3 of 4 in the first fold alone"
    records = Records(tmp_path/'r.json')
    train, test = pd.DataFrame(dict(text=['x'], label=['a'])), pd.DataFrame(dict(text=list('stuv'), label=list('abab')))
    def add(method, fold, said):
        p = np.array([[o=='a', o=='b'] for o in said], float)
        records.add(make_record(Job('mr', method, fold), Outcome(['a', 'b'], p, 1., 1., 1., 1., {}), train, test))
    for fold in range(10): add('textnb', fold, 'abab' if fold else 'abba')
    add('tfidf', 0, 'abaa')
    found = read_records(records.file)
    assert accuracy_table(found, ['tfidf', 'textnb', 'both'], ['mr', 'subj']).splitlines()[2:]==[
        '| MR | 40 | 75.0 (1 of 10) | **95.0** ± 15.8 (10) | – |'.replace('**', ''), '| SUBJ | – | – | – | – |']
    assert summary(found, 'mr', 'textnb')['spread']==pytest.approx(np.std([.5]+[1]*9, ddof=1))
    assert compare(found, 'mr', 'tfidf', 'textnb')==dict(n=4, difference=.25, only_a=1, only_b=0, chance=1.)

def test_folds_are_a_partition():
    "Each text is tested once, and is not trained on then; few labels come from the training texts"
    df = pd.DataFrame(dict(text=[str(i) for i in range(103)], label='a'))
    parts = [sets.kfold(df, fold, 10) for fold in range(10)]
    assert sorted(t for _, test in parts for t in test.text)==sorted(df.text)
    assert all(set(train.text)|set(test.text)==set(df.text) and not set(train.text)&set(test.text) for train, test in parts)
    few, rest = sets.few_labels(parts[0][0], 5, 1)
    assert len(few)==5 and set(few.text)|set(rest.text)==set(parts[0][0].text) and not set(few.text)&set(rest.text)

def test_the_plan():
    "Cheap jobs first; a seed where one is drawn; the titles of the page are those of the tool"
    jobs = plan()
    assert len(set(jobs))==len(jobs) and [METHODS[o.method].stage for o in jobs]==sorted(METHODS[o.method].stage for o in jobs)
    assert {o.seed for o in jobs if o.method=='tfidf'}=={0} and {o.seed for o in plan(['trec'], ['textnb'])}=={0, 1, 2}
    assert {o.fold for o in plan(['mr'], ['textnb'], [3])}=={3}
    assert list(set_titles) and set(set_titles)==set(sets.SETS) and set(method_titles)==set(METHODS)

def test_every_method_can_be_called():
    "Each name of the plan is a function"
    from tools.results import ours
    for name, method in METHODS.items():
        if name!='both': assert callable(getattr(ours if method.ours else baselines, name))

def test_the_page_is_of_these_records():
    "The tables that are saved in the lesson are those of bench/accuracy.json"
    outputs = [''.join(o['data'].get('text/markdown', '')) for c in json.loads((ROOT/'nbs/10_lessons/09_results.ipynb').read_text(encoding='utf-8'))['cells']
        for o in c.get('outputs', []) if 'data' in o]
    table = accuracy_table(read_records(ROOT/'bench'/'accuracy.json'), ['tfidf', 'fasttext', 'minilm', 'textnb', 'both'])
    assert str(table) in outputs, 'the page is older than the records: .venv/bin/nbdev-test --save --n-workers 0 nbs/10_lessons/09_results.ipynb'

def test_as_a_command():
    "`python -m tools.results`, as the Makefile calls it"
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, '-m', 'tools.results', '--list', '--only', 'trec'], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode==0 and 'are missing' in done.stdout, done.stderr
