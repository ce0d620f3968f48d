"The command on tables as people have them, on trainings that go wrong, and on every kind of model"
import bz2, csv, gzip, io, json, lzma, os, random, subprocess, sys, types
from pathlib import Path

import numpy as np, pandas as pd, pytest
from commands import run
from textnb.all import AWD_LSTM, TextClasDataBunch, text_classifier_learner
from textnb.command import *
from textnb.command import classifying

def sentences(n=60, seed=0):
    "Short texts with a label that their words give away"
    r = random.Random(seed)
    good,bad,fill = 'good great fine lovely superb warm'.split(),'bad awful dull poor weak cold'.split(),'film plot cast scene score story'.split()
    res = []
    for i in range(n):
        words = [r.choice(good if i%2 else bad) for _ in range(3)]+[r.choice(fill) for _ in range(3)]
        r.shuffle(words)
        res.append((' '.join(words), ['neg','pos'][i%2]))
    return res

def table(path, rows, header=('text','label'), encoding='utf-8', **kwargs):
    with open(path, 'w', newline='', encoding=encoding) as f:
        w = csv.writer(f, **kwargs)
        if header: w.writerow(header)
        w.writerows(rows)
    return path

PLAIN = ('--no-pretrained', '--epochs-lm', 0) # what is looked at here needs no weights and no language model
def train(capsys, source, *more, out='m.tnb'): return run(capsys, 'train', source, '--epochs', 1, *PLAIN, '--out', out, *more)

def shell(*args, **kw):
    env = {**os.environ, 'OMP_NUM_THREADS':'1', 'PYTHONPATH':str(Path(__file__).parents[1])}
    code = 'import sys; from textnb.command.parser import main; sys.exit(main())'
    return subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, env=env, timeout=120, **kw)

def piped(monkeypatch, data): monkeypatch.setattr(sys, 'stdin', types.SimpleNamespace(buffer=io.BytesIO(data)))

@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

def exported(path, df, **kwargs):
    "A model from Python with labels of any kind"
    kwargs = dict(dict(text_cols='text', label_cols='label', bs=8), **kwargs)
    data = TextClasDataBunch.from_df('.', df[12:], df[:12], **kwargs)
    learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=16, n_hid=16, n_layers=1), pretrained=False, silent=True)
    learn.unfreeze()
    learn.fit_one_cycle(1, 2e-2)
    learn.export(path)
    return path

@pytest.fixture(scope='module')
def models(tmp_path_factory):
    "One model of each kind of label"
    d = tmp_path_factory.mktemp('models')
    df = pd.DataFrame(sentences(), columns=['text','label'])
    kinds = dict(cls=df, num=df.assign(label=np.linspace(0, 1, 60)), whole=df.assign(label=[i%2 for i in range(60)]))
    res = {name: exported(d/f'{name}.tnb', o) for name,o in kinds.items()}
    res['multi'] = exported(d/'multi.tnb', df.assign(label=['a;b','a','b;c','c']*15), label_delim=';')
    res['two'] = exported(d/'two.tnb', df.assign(label=np.linspace(0, 1, 60), other=np.linspace(1, 2, 60)), label_cols=['label','other'])
    return res

# ---- tables

def test_stray_quotes_lose_no_row(capsys):
    lines = ['text\tlabel']+[f'{t}\t{l}' for t,l in sentences()]
    lines[5] = '"'+lines[5]
    lines[15] = lines[15].replace('\t', '"\t')
    Path('q.tsv').write_text('\n'.join(lines)+'\n')
    code,_,err = train(capsys, 'q.tsv')
    assert code==0 and '54 texts to train on, 6 to validate' in err and ': 60 rows' in err
    assert train(capsys, 'q.tsv', '--no-quotes')[0]==0

def test_it_says_what_it_took(capsys):
    "Columns, rows and delimiter are told on standard error; JSON on standard output stays JSON"
    table('s.csv', [(i, t, l) for i,(t,l) in enumerate(sentences())], ('id','Review','stars'), delimiter=';')
    code,out,err = train(capsys, 's.csv', '--json')
    assert code==0 and json.loads(out)['n']==6
    assert "s.csv (CSV, semicolon, utf-8): 60 rows, columns 'id', 'Review', 'stars'" in err
    assert "texts from column 'Review', labels from column 'stars'" in err

def test_no_names_of_columns(capsys):
    table('h.csv', [(l, t) for t,l in sentences()], None, delimiter='\t')
    code,_,err = train(capsys, 'h.csv')
    assert code==0 and "texts from column '1', labels from column '0'" in err and '--header takes it for names' in err
    code,_,err = train(capsys, 'h.csv', '--no-header', '--text-col', 1, '--label-col', 0, '--delimiter', 'tab')
    assert code==0 and ': 60 rows' in err and 'classes neg, pos' in err
    assert 'which column holds the texts? Say it with --text-col' in train(capsys, 'h.csv', '--header')[2]

def test_positions_and_equal_names(capsys):
    table('d.csv', [(t, 'x', l) for t,l in sentences()], ('text','text','label'))
    code,_,err = train(capsys, 'd.csv')
    assert code==1 and 'several columns are called' in err and '--text-col' in err
    code,_,err = train(capsys, 'd.csv', '--text-col', '0')
    assert code==0 and '54 texts to train on' in err
    code,_,err = train(capsys, 'd.csv', '--text-col', '9')
    assert code==1 and "no column '9' (option --text-col); the columns are: text, text, label" in err

def test_names_with_blanks(capsys):
    table('h.csv', sentences(), (' text',' label'))
    assert train(capsys, 'h.csv', '--text-col', 'text', '--label-col', 'label')[0]==0
    assert train(capsys, 'h.csv')[0]==0

def test_encodings(capsys):
    rows = [(t+' café', l) for t,l in sentences()]
    for encoding in ('utf-8-sig','latin-1','utf-16'):
        table('e.csv', rows, encoding=encoding)
        code,_,err = run(capsys, 'tokenize', 'e.csv', '--rows', 1, '--workers', 1)
        assert code==0 and "columns 'text', 'label'" in err, encoding
        out = run(capsys, 'tokenize', 'e.csv', '--rows', 1, '--workers', 1, '--json')[1]
        assert 'café' in json.loads(out)['examples'][0]
    code,_,err = run(capsys, 'tokenize', 'e.csv', '--encoding', 'klingon')
    assert code==2 and 'unknown encoding: klingon' in err

@pytest.mark.parametrize('name', ['x.tsv.xz','x.csv.gz','x.csv.bz2','X.TSV','x.jsonl','x.json','x.parquet'])
def test_endings(models, capsys, name):
    df = pd.DataFrame(sentences(), columns=['text','label'])
    kind = name.lower().split('.')[1]
    if kind=='parquet': df.to_parquet(name)
    elif kind.startswith('json'): df.to_json(name, orient='records', lines=kind=='jsonl')
    else:
        data = df.to_csv(index=False, sep='\t' if kind=='tsv' else ',').encode()
        pack = dict(xz=lzma.compress, gz=gzip.compress, bz2=bz2.compress).get(name.split('.')[-1], bytes)
        Path(name).write_bytes(pack(data))
    code,out,err = run(capsys, 'evaluate', models['cls'], name, '--json')
    assert code==0 and json.loads(out)['n']==60, err
    code,out,err = run(capsys, 'predict', models['cls'], '--csv', name, '--format', 'jsonl')
    assert [json.loads(o)['text'] for o in out.splitlines()]==df.text.tolist()

def test_files_that_are_no_tables(models, capsys):
    for name,word in (('x.xlsx','Excel'), ('x.zip','archive'), ('x.pdf','document')):
        Path(name).write_bytes(b'PK\x03\x04 nothing')
        code,_,err = run(capsys, 'evaluate', models['cls'], name)
        assert code==1 and word in err, err

def test_standard_input(models, capsys, monkeypatch):
    piped(monkeypatch, b'id;text\n1;a film\n2;"b; film"\n')
    code,out,err = run(capsys, 'predict', models['cls'], '--csv', '-', '--format', 'csv')
    assert code==0 and pd.read_csv(io.StringIO(out)).text.tolist()==['a film','b; film'] and 'standard input' in err
    piped(monkeypatch, b'{"text":"a","label":"pos"}\n{"text":"b","label":"neg"}\n')
    code,out,_ = run(capsys, 'evaluate', models['cls'], '-', '--input-format', 'jsonl', '--json')
    assert code==0 and json.loads(out)['n']==2
    piped(monkeypatch, '\ufeffcafé\n\nso\n'.encode())
    code,out,_ = run(capsys, 'predict', models['cls'], '-', '--format', 'json')
    assert [o['text'] for o in json.loads(out)]==['café','','so']
    piped(monkeypatch, b'one text\nanother text\n')
    assert json.loads(run(capsys, 'tokenize', '-', '--json', '--workers', 1)[1])['texts']==2

def test_words_that_look_like_nothing(capsys):
    table('n.csv', sentences()+[('N/A','neg'), ('None','pos'), ('null','None'), ('nan','None'), ('NA','None')])
    code,_,err = train(capsys, 'n.csv')
    assert code==0 and ': 65 rows' in err and 'classes None, neg, pos' in err

def test_codes_keep_their_form(capsys):
    for a,b in (('01','02'), ('1.1','1.10'), ('007','7')):
        table('c.csv', [(t, (a,b)[i%2]) for i,(t,_) in enumerate(sentences())])
        code,_,err = train(capsys, 'c.csv')
        assert code==0 and f'classes {a}, {b}' in err
    _,out,_ = run(capsys, 'predict', 'm.tnb', 'a film', '--format', 'json')
    assert {'007','7'}<=set(json.loads(out)[0])

def test_missing_cells(models, capsys):
    table('g.csv', sentences(20)+[('','neg'), ('a film','')])
    code,_,err = train(capsys, 'g.csv')
    assert code==1 and "1 text missing in column 'text' (first in row 22)" in err and '--skip-missing' in err
    code,_,err = train(capsys, 'g.csv', '--skip-missing')
    assert code==0 and '1 text missing' in err and '1 label missing' in err and '18 texts to train on' in err

def test_broken_lines_speak_of_options(capsys):
    Path('b.csv').write_text('text,label\n'+''.join(f'{t},{l}\n' for t,l in sentences())+'a,b,c,d\n')
    code,_,err = train(capsys, 'b.csv')
    assert code==1 and 'line 62' in err and '--skip-bad-lines' in err and 'on_bad_lines' not in err
    code,_,err = train(capsys, 'b.csv', '--skip-bad-lines')
    assert code==0 and '1 broken line' in err and '54 texts to train on' in err

def test_commas_in_a_semicolon_file(capsys):
    Path('s.csv').write_text('text;label\n'+''.join(f'{t}, {t};{l}\n' for t,l in sentences()))
    code,_,err = train(capsys, 's.csv')
    assert code==0 and 'semicolon' in err and 'classes neg, pos' in err

# ---- what is measured

def test_words_of_a_split(capsys):
    rows = [(t, l, ['train','train','validation','test'][i//2%4]) for i,(t,l) in enumerate(sentences(80))]
    table('s.csv', rows, ('text','label','split'))
    code,out,err = train(capsys, 's.csv', '--valid-col', 'split', '--json')
    res = json.loads(out)
    assert code==0 and '40 texts to train on, 20 to validate' in err and '40 train, 20 valid, 20 test' in err
    assert res['n']==20 and res['test']['n']==20 and np.sum(res['test']['confusion'])==20
    assert 'of the test part' in train(capsys, 's.csv', '--valid-col', '2')[1]
    table('s.csv', [(t, l, 'later') for t,l,_ in rows], ('text','label','split'))
    code,_,err = train(capsys, 's.csv', '--valid-col', 'split')
    assert code==1 and "'later'" in err and not Path('none.tnb').exists()

def test_equal_texts_stay_on_one_side(capsys):
    rows = sentences(40)
    table('d.csv', rows+rows[:20]+[(t.upper(), l) for t,l in rows[:10]])
    code,out,_ = train(capsys, 'd.csv', '--json', '--valid-pct', .3)
    assert code==0 and json.loads(out)['shared']==0
    table('d.csv', [(*o, 'train') for o in rows]+[(*o, 'valid') for o in rows[:8]], ('text','label','split'))
    code,out,err = train(capsys, 'd.csv', '--json', '--valid-col', 'split')
    assert code==0 and json.loads(out)['shared']==8 and '8 of the 8 validation texts occur in training as well' in err

def test_figures_are_those_of_a_matrix(models, capsys):
    table('t.csv', sentences(40, seed=3))
    res = json.loads(run(capsys, 'evaluate', models['cls'], 't.csv', '--json')[1])
    cm = np.array(res['confusion'])
    assert cm.sum()==40 and res['accuracy']==np.trace(cm)/40 and res['majority']==cm.sum(1).max()/40
    assert res['f1']==pytest.approx(2*cm[1,1]/max(1, cm[1].sum()+cm[:,1].sum()))

def test_many_classes_need_no_matrix():
    "8,000 classes: a matrix would have 64 million cells"
    rng = np.random.default_rng(0)
    g = Guesses()
    for _ in range(4):
        p = rng.random((50, 8000), dtype=np.float32)
        g.add(p/p.sum(1, keepdims=True), rng.integers(0, 8000, 50))
    names = [f'class {i}' for i in range(8000)]
    res = class_figures(g, names)
    assert res['confusion'] is None and len(res['most_confused'])==10
    assert len(res['by_class'])<=400 and len(json.dumps(res))<200*400 # no class that is neither there nor predicted
    assert res['n']==200 and 'most often mistaken' in show_scores(res, names)
    assert sum(o.nbytes for o in vars(g).values())==200*6*8

def test_a_baseline_of_many_classes():
    from textnb.command import baselines
    d = dict(texts=['a fine film','a dull plot','fine film','dull plot'], labels=['pos','neg']*2, valid=[False,False,True,True])
    assert tfidf_baseline({**d, 'texts':d['texts']*2, 'labels':d['labels']*2, 'valid':[False]*4+[False,False,True,True]})[1]==[True,True]
    most,baselines.most_weights = baselines.most_weights,0
    try: name,right = tfidf_baseline({**d, 'texts':d['texts']*2, 'labels':d['labels']*2, 'valid':[False]*4+[False,False,True,True]})
    finally: baselines.most_weights = most
    assert name=='TF-IDF + nearest text' and right==[True,True]

# ---- trainings that go wrong

def test_a_training_that_diverges(capsys):
    table('t.csv', sentences())
    Path('old.tnb').write_text('an older model')
    code,out,err = run(capsys, 'train', 't.csv', *PLAIN, '--lr', '1e9', '--clas-bs', '8', '--json', '--out', 'old.tnb')
    assert code==1 and out=='' and 'the training diverged' in err and '--lr' in err
    assert Path('old.tnb').read_text()=='an older model'
    code,_,err = run(capsys, 'train-lm', 't.csv', '--lr', '1e30', '--epochs', 2, '--out', 'lm')
    assert code==1 and 'the training diverged' in err and not list(Path('lm').glob('*.tnb'))

def test_one_text_a_class_is_told_before_training(capsys):
    table('u.csv', [(t, f'c{i}') for i,(t,_) in enumerate(sentences(20))])
    code,_,err = train(capsys, 'u.csv')
    assert code==1 and 'all layers' not in err and '--label-col' in err
    table('u.csv', sentences(20)+[('one more', 'rare')])
    code,_,err = train(capsys, 'u.csv')
    assert code==0 and "'rare'" in err and 'only one training text' in err

def test_nothing_learned_is_said(capsys):
    table('t.csv', sentences())
    code,_,err = train(capsys, 't.csv', '--lr', '1e-6')
    assert code==0 and 'it has learned nothing that helps' in err
    assert nothing_learned(dict(accuracy=.9, majority=.5))==''

def test_batches_follow_the_rows(capsys):
    assert [batch_size(n) for n in (54, 324, 900, 5000)]==[4, 16, 32, 64]
    table('t.csv', sentences())
    assert train(capsys, 't.csv')[0]==0
    assert json.loads(Path('m.json').read_text())['made']['plan']['bs']==8
    _,_,err = run(capsys, 'train', 't.csv', '--out', 'm.tnb', *PLAIN, '--clas-bs', 64, '--epochs', 2)
    assert 'one step an epoch' in err and '--clas-bs 4' in err

@pytest.mark.parametrize('error,code', [(MemoryError('64,000,000 cells'), 3), (RuntimeError('no'), 3), (KeyboardInterrupt(), 130)])
def test_the_product_comes_first(capsys, monkeypatch, error, code):
    table('t.csv', sentences())
    def fail(*args): raise error
    monkeypatch.setattr(classifying, 'measure_part', fail)
    got,out,err = train(capsys, 't.csv')
    assert got==code and out=='' and 'm.tnb' in err.split('all layers')[1] and 'the model is whole' in err
    assert run(capsys, 'predict', 'm.tnb', 'a film')[0]==0

def test_the_demo_writes_its_model_first(capsys, monkeypatch):
    from textnb.command import demo
    table('t.csv', sentences())
    def fail(*args): raise MemoryError('no')
    monkeypatch.setattr(demo, 'tfidf_baseline', fail)
    code,_,err = run(capsys, 'demo', '--data', 't.csv', '--epochs-lm', 1, '--epochs', 1, '--out', 'd')
    assert code==3 and 'd/model.tnb' in err and run(capsys, 'predict', 'd/model.tnb', 'a film')[0]==0

def test_the_demo_proposes_words_of_the_data(capsys):
    table('t.csv', sentences())
    code,_,err = run(capsys, 'demo', '--data', 't.csv', '--epochs-lm', 1, '--epochs', 1, '--out', 'd')
    assert code==0 and 'wonderful' not in err
    tried = err.rsplit('textnb explain d/model.tnb ', 1)[1].strip().strip("'")
    assert tried in [t for t,_ in sentences()]
    page = Path('d/report.html').read_text(encoding='utf-8')
    assert 'unseen texts' in page

def test_a_report_calls_no_copy_unseen():
    curve = dict(train=[], valid=[], epochs=[])
    r = dict(title='t', about=[], classes=['a','b'], metrics=dict(accuracy=.5, f1=.5, auroc=.5, loss=1, n=557), baseline=None,
        lm=curve, clas=curve, confusion=[[1,1],[1,1]], texts=[], top_losses=[], settings={}, seconds=dict(all=1.))
    assert '557 unseen texts' in demo_report({**r, 'shared':0})
    page = demo_report({**r, 'shared':68})
    assert 'unseen' not in page and '557 texts, 68 of which were also learned from' in page

def test_notes_may_lose_their_reader(capsys):
    table('t.csv', sentences())
    assert train(capsys, 't.csv')[0]==0
    env = {**os.environ, 'OMP_NUM_THREADS':'1', 'PYTHONPATH':str(Path(__file__).parents[1])}
    code = 'import sys; from textnb.command.parser import main; sys.exit(main())'
    p = subprocess.Popen([sys.executable, '-c', code, 'train', 't.csv', '--epochs', '1', *map(str, PLAIN), '--out', 'p.tnb'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    p.stderr.close()
    p.stdout.close()
    assert p.wait(120)==0 and Path('p.tnb').stat().st_size==Path('m.tnb').stat().st_size

# ---- languages without spaces

def test_chinese(capsys):
    pytest.importorskip('sentencepiece')
    good,bad = ['这部电影非常好看','演员很棒我喜欢','剧情精彩值得一看'],['这部电影太难看了','演员很差我不喜欢','剧情无聊浪费时间']
    r = random.Random(0)
    table('z.csv', [('，'.join(o+str(r.randint(0, 9)) for o in r.sample(good if i%2 else bad, 2))+'。', ['neg','pos'][i%2]) for i in range(100)])
    code,_,err = train(capsys, 'z.csv')
    assert code==0 and 'Chinese' in err and '--subwords' in err and 'SPProcessor' not in err
    code,out,err = run(capsys, 'train', 'z.csv', '--subwords', '--json', '--out', 'z.tnb')
    assert code==0 and 'Chinese' not in err and json.loads(out)['accuracy']>.9
    assert [p.name for p in Path().iterdir() if p.is_dir()]==[]
    assert run(capsys, 'train-lm', 'z.csv', '--subwords', '--epochs', 1, '--out', 'lm')[0]==0
    code,out,_ = run(capsys, 'train', 'z.csv', '--encoder', 'lm/encoder.tnb', '--epochs', 6, '--json', '--out', 'y.tnb')
    assert code==0 and load_vocab('y.tnb')==load_vocab('lm/lm.tnb') and json.loads(out)['accuracy']>.7
    assert train(capsys, 'z.csv', '--encoder', 'lm/encoder.tnb', '--subwords')[0]==2

def load_vocab(path):
    from textnb.base import load_archive
    return load_archive(path).meta['data']['vocab']

# ---- every kind of model

def test_predictions_keep_all_columns(models, capsys):
    table('s.csv', [('007','good film; great','pos','kept')], ('id','text','label','neg'), delimiter=';')
    code,out,_ = run(capsys, 'predict', models['cls'], '--csv', 's.csv', '--format', 'json')
    row, = json.loads(out)
    assert code==0 and list(row)==['id','text','label','neg','prediction','p_neg','pos']
    assert row['id']=='007' and row['text']=='good film; great' and row['neg']=='kept' and row['p_neg']+row['pos']==pytest.approx(1, abs=1e-5)
    code,_,err = run(capsys, 'predict', models['cls'], '--csv', 's.csv', '--text-col', 'body')
    assert code==1 and "no column 'body'" in err
    table('k.csv', [('a','b','c')], ('one','two','three'))
    assert '--text-col' in run(capsys, 'predict', models['cls'], '--csv', 'k.csv')[2]

def test_out_follows_its_ending(models, capsys):
    text = 'good film '*12
    table('l.csv', [(text,'pos'), ('a\rb','neg'), ('c\n"d"','pos')], quoting=csv.QUOTE_ALL)
    want = [text,'a\rb','c\n"d"']
    for name in ('p.csv','p.tsv','p.csv.gz','P.CSV'):
        assert run(capsys, 'predict', models['cls'], '--csv', 'l.csv', '--out', name)[:2]==(0,'')
        df = pd.read_csv(name, sep='\t' if 'tsv' in name else ',', keep_default_na=False)
        assert df.text.tolist()==want and list(df)==['text','label','prediction','neg','pos']
    assert run(capsys, 'predict', models['cls'], '--csv', 'l.csv', '--out', 'p.jsonl')[0]==0
    assert [json.loads(o)['text'] for o in Path('p.jsonl').read_text().splitlines()]==want
    assert run(capsys, 'predict', models['cls'], '--csv', 'l.csv', '--out', 'p.json')[0]==0
    assert [o['text'] for o in json.loads(Path('p.json').read_text())]==want
    assert run(capsys, 'predict', models['cls'], '--csv', 'l.csv', '--out', 'p.parquet')[0]==0
    assert pd.read_parquet('p.parquet').text.tolist()==want
    assert run(capsys, 'predict', models['cls'], '--csv', 'l.csv', '--out', 'p.txt')[0]==0
    assert text.strip() in Path('p.txt').read_text()

def test_a_pipe_gets_data(models):
    table('l.csv', [('good film '*12,'pos')])
    r = shell('predict', models['cls'], '--csv', 'l.csv')
    df = pd.read_csv(io.BytesIO(r.stdout))
    assert r.returncode==0 and df.text.tolist()==['good film '*12] and list(df)[2:]==['prediction','neg','pos']

def test_models_of_numbers(models, capsys):
    row, = json.loads(run(capsys, 'predict', models['num'], 'good film', '--format', 'json')[1])
    assert list(row)==['text','prediction'] and -1<row['prediction']<2
    row, = json.loads(run(capsys, 'predict', models['two'], 'good film', '--format', 'json')[1])
    assert list(row)==['text','prediction 1','prediction 2']
    df = pd.DataFrame(sentences(), columns=['text','label']).assign(label=np.linspace(0, 1, 60))
    df.to_csv('n.csv', index=False)
    code,out,_ = run(capsys, 'evaluate', models['num'], 'n.csv', '--json')
    res = json.loads(out)
    got = pd.read_csv(io.StringIO(run(capsys, 'predict', models['num'], '--csv', 'n.csv', '--format', 'csv')[1]))
    assert code==0 and res['mae']==pytest.approx((got.prediction-df.label).abs().mean(), abs=1e-5)
    assert res['rmse']==pytest.approx(((got.prediction-df.label)**2).mean()**.5, abs=1e-5)
    table('w.csv', sentences())
    code,_,err = run(capsys, 'evaluate', models['num'], 'w.csv')
    assert code==1 and "in row 2 it says 'neg'" in err
    code,out,_ = run(capsys, 'explain', models['num'], 'good film', '--html', 'e.html')
    assert code==0 and '%' not in out.splitlines()[0] and 'film' in Path('e.html').read_text(encoding='utf-8')

def test_models_of_several_labels(models, capsys):
    row, = json.loads(run(capsys, 'predict', models['multi'], 'good film', '--format', 'json', '--thresh', .01)[1])
    assert row['prediction']==['a','b','c']
    row, = json.loads(run(capsys, 'predict', models['multi'], 'good film', '--format', 'json', '--thresh', .99)[1])
    assert row['prediction']==[] and list(row)==['text','prediction','a','b','c']
    out = run(capsys, 'predict', models['multi'], 'good film', '--format', 'csv', '--thresh', .01)[1]
    assert pd.read_csv(io.StringIO(out)).prediction.tolist()==['a;b;c']
    table('m.csv', [(t, ['a;b','a','b; c',''][i%4]) for i,(t,_) in enumerate(sentences())])
    code,out,err = run(capsys, 'evaluate', models['multi'], 'm.csv', '--json', '--thresh', .01)
    res = json.loads(out)
    assert code==0 and res['n']==60 and res['exact']==0 and res['accuracy']==pytest.approx(75/180), err
    assert res['labels'][0]==dict(label='a', texts=30, predicted=60, right=30, precision=.5, recall=1, f1=pytest.approx(2/3))
    table('o.csv', [(t, ['a|b','c'][i%2]) for i,(t,_) in enumerate(sentences())])
    assert run(capsys, 'evaluate', models['multi'], 'o.csv', '--label-delim', '|')[0]==0
    code,_,err = run(capsys, 'evaluate', models['multi'], 'o.csv')
    assert code==1 and 'a|b' in err and "divided by ';'" in err
    code,out,_ = run(capsys, 'explain', models['multi'], 'good film', '--class', 'c')
    assert code==0 and out.startswith('c ')

def test_whole_numbers_as_classes(models, capsys):
    table('w.csv', [(t, i%2) for i,(t,_) in enumerate(sentences())])
    assert json.loads(run(capsys, 'evaluate', models['whole'], 'w.csv', '--json')[1])['n']==60
    assert json.loads(run(capsys, 'predict', models['whole'], 'a film', '--format', 'json')[1])[0]['prediction'] in ('0','1')

# ---- wrong calls

def test_places_that_cannot_be_written(models, capsys):
    table('t.csv', sentences())
    Path('folder').mkdir()
    m = models['cls']
    for args,code,word in [
        (('train','t.csv','--out','folder'), 2, 'is a folder'),
        (('train','t.csv','--out','t.csv'), 2, 'write over the file that is read'),
        (('train','t.csv','--out','t.csv/m.tnb'), 1, 'no folder'),
        (('train-lm','t.csv','--out','t.csv'), 2, 'is a file'),
        (('predict',m,'--csv','t.csv','--out','folder'), 2, 'is a folder'),
        (('predict',m,'--csv','t.csv','--out','t.csv'), 2, 'write over'),
        (('predict',m,'--csv','t.csv','--out','p.doc'), 2, 'names no format'),
        (('predict',m,'--csv','t.csv','--format','parquet'), 2, 'name it with --out'),
        (('explain',m,'a film','--html','folder'), 2, 'is a folder'),
        (('tokenize','t.csv','--save-vocab','t.csv'), 2, 'write over'),
        (('train','none.csv'), 1, 'no such file: none.csv'),
        (('train','folder'), 1, 'is a folder'),
        (('predict','folder','a film'), 1, 'is a folder')]:
        got,out,err = run(capsys, *args)
        assert (got,out)==(code,'') and word in err and 'all layers' not in err, (args, err)
    assert len(pd.read_csv('t.csv'))==60

@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid()==0, reason='root may write anywhere')
def test_a_folder_without_permission(capsys):
    table('t.csv', sentences())
    Path('locked').mkdir(mode=0o500)
    code,_,err = train(capsys, 't.csv', out='locked/m.tnb')
    assert code==1 and 'nothing can be written' in err and 'all layers' not in err

def test_help_names_codes_and_options(capsys):
    assert '3 the model is written' in run(capsys, '--help')[1]
    for command in ('train','train-lm','tokenize','predict','evaluate','panel','demo'):
        text = run(capsys, command, '--help')[1]
        for option in ('--delimiter','--encoding','--no-header','--no-quotes','--text-col','--skip-missing','--input-format'):
            assert option in text, (command, option)

# ---- panels of tables

def panel_args(model, data, *more): return build_parser().parse_args(['panel', str(model), '--panel', 'losses', '--data', str(data), *more])

def test_a_panel_reads_any_table(models, capsys):
    "The page reads the table as the command was told to"
    table('p.txt', [(l, t) for t,l in sentences()], None, delimiter='|')
    args = panel_args(models['cls'], 'p.txt', '--no-header', '--delimiter', 'bar', '--text-col', '1', '--label-col', '0', '--input-format', 'csv')
    source = panel_source(args)
    assert "texts from column '1', labels from column '0'" in capsys.readouterr().err
    made = {}
    exec(source.replace('\ntable_panel(', '\npanel = table_panel('), made)
    ds = made['panel'].interp.ds if hasattr(made['panel'], 'interp') else None
    assert type(made['panel']).__name__=='TopLossPanel'
    if ds is not None: assert ds.raw_text(0)==sentences()[0][0]

def test_a_panel_of_losses_is_for_classes(models, capsys):
    table('t.csv', sentences())
    for name in ('num','multi'):
        code,_,err = run(capsys, 'panel', models[name], '--panel', 'losses', '--data', 't.csv', '--no-browser')
        assert code==1 and 'is for one class a text' in err
    code,_,err = run(capsys, 'panel', models['cls'], '--panel', 'losses', '--data', '-')
    assert code==1 and 'wants a file' in err
