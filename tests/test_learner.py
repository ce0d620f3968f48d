"Learners of text: loading, predicting, exporting, and what they say to bad input"
import json, pickle, subprocess, sys, threading, zipfile
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from textnb.all import *
from textnb.learn import encoder_of

GOLD = Path(__file__).parent/'goldens'
small = dict(emb_sz=12, n_hid=16, n_layers=2)

def frame(n=60, seed=0):
    "Sentences whose label hangs on one word"
    r = np.random.default_rng(seed)
    good,bad,fill = ['great','lovely','fine'],['awful','dull','poor'],'the film was a story of two people in one long night and it had music'.split()
    rows = []
    for i in range(n):
        y = i%2
        w = list(r.choice(fill, r.integers(3, 14)))
        w.insert(r.integers(len(w)), r.choice(good if y else bad))
        rows.append(dict(label='pos' if y else 'neg', text=' '.join(w)))
    return pd.DataFrame(rows)

def clas_data(path, backwards=False, vocab=None, **kw):
    df = frame()
    return TextClasDataBunch.from_df(path, df[:44], df[44:], text_cols='text', label_cols='label', bs=8, min_freq=1, backwards=backwards, vocab=vocab, **kw)

def lm_data(path, backwards=False, **kw):
    df = frame()
    return TextLMDataBunch.from_df(path, df[:44], df[44:], text_cols='text', label_cols='label', bs=4, bptt=8, min_freq=1, backwards=backwards, **kw)

@pytest.fixture
def clas(tmp_path):
    set_seed(0)
    return text_classifier_learner(clas_data(tmp_path), AWD_LSTM, config=small, pretrained=False, silent=True)

@pytest.fixture
def lm(tmp_path):
    set_seed(0)
    return language_model_learner(lm_data(tmp_path), AWD_LSTM, config=small, pretrained=False, silent=True)

# ---- on a GPU

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('size', [small, dict(emb_sz=200, n_hid=500, n_layers=3)])
@pytest.mark.parametrize('half', [False,True])
def test_training_and_law_3_on_a_gpu(tmp_path, size, half):
    "Trains in float32 and in bfloat16; then a text's answer is the same alone, in a batch and on the CPU, and cuDNN may use TF32 as before"
    set_seed(0)
    learn,was = text_classifier_learner(clas_data(tmp_path), AWD_LSTM, config=size, drop_mult=.1, pretrained=False, silent=True),torch.backends.cudnn.allow_tf32
    if half: learn.to_bf16()
    before = learn.validate(learn.data.fix_dl)[0]
    learn.fit_one_cycle(8, 1e-2)
    assert learn.validate(learn.data.fix_dl)[0]<before-.03
    texts = [*frame(9, seed=1).text,'x '*40]
    many = [o[2] for o in learn.predict(texts)]
    for t,p in zip(texts, many): assert torch.allclose(learn.predict(t)[2], p, atol=1e-6)
    assert torch.allclose(learn.get_preds()[0][3], learn.predict(frame().text[47])[2], atol=1e-6)
    learn.model.cpu()
    assert torch.allclose(torch.stack(many), torch.stack([o[2] for o in learn.predict(texts)]), atol=1e-5) and torch.backends.cudnn.allow_tf32==was

# ---- pretrained weights

def v1_files(lm, folder, itos=None, v2=False, **extra):
    "A `.pth` and `.pkl` as fastai writes them"
    sd = {k:v.clone() for k,v in lm.model.state_dict().items()}
    enc = '0.encoder.weight'
    if not v2:
        sd['0.encoder_dp.emb.weight'] = sd[enc].clone()
        for k in list(sd):
            if k.endswith('weight_hh_l0_raw'): sd[k.replace('weight_hh_l0_raw', 'module.weight_hh_l0')] = sd[k].clone()
    sd['1.decoder.weight'] = sd[enc].clone()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(model=sd, opt=None) if v2 else sd, folder/'w.pth')
    with open(folder/'i.pkl', 'wb') as f: pickle.dump(list(lm.data.vocab.itos if itos is None else itos), f)
    return sd

def test_convert_golden():
    "Check 14: equal to fastai v1 bit for bit, the input unchanged"
    z = np.load(GOLD/'convert_weights.npz')
    old = {k[4:]:torch.tensor(z[k]) for k in z.files if k.startswith('old/')}
    before = {k:v.clone() for k,v in old.items()}
    new = convert_weights(old, {w:i for i,w in enumerate(z['old_itos'])}, list(z['new_itos']))
    assert set(new)=={k[4:] for k in z.files if k.startswith('new/')}
    for k,v in new.items(): assert np.array_equal(v.numpy(), z[f'new/{k}']), k
    for k,v in before.items(): assert torch.equal(v, old[k])

@settings(max_examples=40, deadline=None)
@given(st.lists(st.text('abcdef', min_size=1, max_size=2), min_size=1, max_size=12, unique=True), st.lists(st.text('abcdefg', min_size=1, max_size=2), min_size=1, max_size=12))
def test_convert_rows(old, new):
    "Check 14: shared words keep their row, all others get the column means"
    w = {'0.encoder.weight':torch.randn(len(old), 3), '1.decoder.bias':torch.randn(len(old))}
    res,stoi = convert_weights(w, {o:i for i,o in enumerate(old)}, new),{o:i for i,o in enumerate(old)}
    for i,t in enumerate(new):
        want = w['0.encoder.weight'][stoi[t]] if t in stoi else w['0.encoder.weight'].mean(0)
        assert torch.equal(res['0.encoder.weight'][i], want)
        assert torch.equal(res['1.decoder.bias'][i], w['1.decoder.bias'][stoi[t]] if t in stoi else w['1.decoder.bias'].mean(0))

@pytest.mark.parametrize('v2', [False,True])
@pytest.mark.parametrize('task', ['lm','classifier'])
def test_load_pretrained(lm, clas, tmp_path, v2, task):
    "Check 15 and A1: every tensor of a v1 or v2 language model arrives, rows moved by word; only the decoder is left aside"
    itos = list(lm.data.vocab.itos)
    itos[20:40] = itos[20:40][::-1]
    itos[-1] = 'never-seen'
    sd = v1_files(lm, tmp_path/'models', itos, v2)
    learn = clas if task=='classifier' else language_model_learner(lm.data, AWD_LSTM, config=small, pretrained=False, silent=True)
    learn.load_pretrained('w', 'i')
    got,rep = encoder_of(learn.model).state_dict(),learn.load_report
    for k,v in got.items():
        if k!='encoder.weight': assert torch.equal(v, sd[f'0.{k}']), k
    stoi = {w:i for i,w in enumerate(itos)}
    for i,w in enumerate(learn.data.vocab.itos):
        want = sd['0.encoder.weight'][stoi[w]] if w in stoi else sd['0.encoder.weight'].mean(0)
        if w!='xxfake': assert torch.equal(got['encoder.weight'][i], want), w
    assert not rep.missing and '0.encoder.weight' in rep.remapped
    decoder = {k for k in rep.skipped if k.startswith('1.')}
    assert decoder==({'1.decoder.weight','1.decoder.bias'} if task=='classifier' else set())
    named = set(rep.loaded)|set(rep.remapped)|set(rep.skipped)
    assert named>=set(sd), set(sd)-named

def test_factory_pretrained(lm, tmp_path):
    "A classifier made with `pretrained_fnames` holds the weights and is frozen to its head"
    sd = v1_files(lm, tmp_path/'models')
    learn = text_classifier_learner(clas_data(tmp_path, vocab=lm.data.vocab), AWD_LSTM, config=small, pretrained_fnames=['w','i'], silent=True)
    assert torch.equal(encoder_of(learn.model).encoder.weight, sd['0.encoder.weight'])
    assert not any(p.requires_grad for p in encoder_of(learn.model).parameters())
    assert all(p.requires_grad for p in learn.model[1].parameters())

@pytest.mark.parametrize('backwards', [False,True])
def test_pretrained_url(tmp_path, monkeypatch, backwards):
    "Check 15 and A2: data that run backwards get the weights of the backward model; unreachable weights say what to do"
    import textnb.learn.learner as L
    asked = []
    def nowhere(url, **kw):
        asked.append(url)
        raise ConnectionError('no network')
    monkeypatch.setattr(L, 'untar_data', nowhere)
    for make,data in ((text_classifier_learner,clas_data), (language_model_learner,lm_data)):
        with pytest.raises(ConnectionError, match='pretrained=False'): make(data(tmp_path, backwards=backwards), AWD_LSTM, silent=True)
    assert asked==[URLs.WT103_BWD if backwards else URLs.WT103_FWD]*2

def test_wrong_weights(lm, clas, tmp_path):
    "Bad input: a vocabulary that does not fit the weights, weights of another size, a file that is no model; nothing is loaded"
    before = {k:v.clone() for k,v in clas.model.state_dict().items()}
    v1_files(lm, tmp_path/'models', lm.data.vocab.itos[:-3])
    n = len(lm.data.vocab.itos)
    with pytest.raises(ValueError, match=f'{n} rows of weights and a vocabulary of {n-3} words'): clas.load_pretrained('w', 'i')
    big = language_model_learner(lm.data, AWD_LSTM, config=dict(small, n_hid=20), pretrained=False, silent=True)
    v1_files(big, tmp_path/'models')
    with pytest.raises(ValueError, match=r'rnns.0.weight_hh_l0_raw is \(80, 20\) in the file and \(64, 16\) in the model'): clas.load_pretrained('w', 'i')
    torch.save(dict(weight=torch.ones(2)), tmp_path/'models'/'x.pth')
    with pytest.raises(ValueError, match='no text encoder'): clas.load_pretrained('x', 'i')
    with pytest.raises(FileNotFoundError, match='nothere'): clas.load_pretrained('nothere', 'i')
    for k,v in clas.model.state_dict().items(): assert torch.equal(v, before[k]), k

class _Evil:
    def __reduce__(self): return (print, ('ran',))

def test_no_code_from_files(clas, tmp_path, capsys):
    "Files of others cannot run code"
    (tmp_path/'models').mkdir()
    for name in ('w.pth','i.pkl'):
        with open(tmp_path/'models'/name, 'wb') as f: pickle.dump(_Evil(), f, protocol=2)
    with pytest.raises(Exception): clas.load_pretrained('w', 'i')
    with pytest.raises(Exception): clas.load_encoder('w.pth')
    assert 'ran' not in capsys.readouterr().out

# ---- encoders

def test_encoder_round_trip(lm, tmp_path):
    "Check 16: the encoder of the language model, in the classifier, and frozen"
    f = lm.save_encoder('enc')
    assert f==tmp_path/'models'/'enc.tnb'
    learn = text_classifier_learner(clas_data(tmp_path, vocab=lm.data.vocab), AWD_LSTM, config=small, pretrained=False, silent=True)
    assert learn.load_encoder('enc') is learn
    for (k,a),b in zip(lm.model[0].state_dict().items(), encoder_of(learn.model).state_dict().values()): assert torch.equal(a, b), k
    assert not any(p.requires_grad for p in encoder_of(learn.model).parameters())
    assert repr(learn.load_report).startswith('enc.tnb: ') and not learn.load_report.missing

def test_encoder_other_vocab(lm, tmp_path):
    "Check 16: another size names both sizes, another order names the first word that differs; `remap` moves the rows"
    lm.save_encoder('enc')
    itos,n = list(lm.data.vocab.itos),len(lm.data.vocab.itos)
    def classifier(words): return text_classifier_learner(clas_data(tmp_path, vocab=Vocab(words)), AWD_LSTM, config=small, pretrained=False, silent=True)
    with pytest.raises(ValueError, match=f'knows {n} words, this learner\'s vocabulary has {n-2}'): classifier(itos[:-2]).load_encoder('enc')
    swap = itos[:10]+[itos[11],itos[10]]+itos[12:]
    learn = classifier(swap)
    with pytest.raises(ValueError, match=f'word 10 is {itos[10]!r} there and {itos[11]!r} here'): learn.load_encoder('enc')
    learn.load_encoder('enc', remap=True)
    w = encoder_of(learn.model).encoder.weight
    assert torch.equal(w[10], lm.model[0].encoder.weight[11]) and torch.equal(w[12], lm.model[0].encoder.weight[12])

def test_encoder_of_v1(lm, tmp_path):
    "The `.pth` that v1's `save_encoder` wrote"
    sd = v1_files(lm, tmp_path/'models')
    torch.save({k[2:]:v for k,v in sd.items() if k.startswith('0.')}, tmp_path/'models'/'enc.pth')
    learn = text_classifier_learner(clas_data(tmp_path, vocab=lm.data.vocab), AWD_LSTM, config=small, pretrained=False, silent=True)
    learn.load_encoder('enc')
    assert torch.equal(encoder_of(learn.model).encoder.weight, lm.model[0].encoder.weight)

# ---- predictions

def test_preds_are_predict(clas):
    "Check 24 and A26: get_preds keeps the order of the data set for any batch size, equals predict, and leaves the global generators alone"
    texts = [clas.data.valid_ds.raw_text(i) for i in range(len(clas.data.valid_ds))]
    want = torch.stack([clas.predict(t)[2] for t in texts])
    state = np.random.get_state()[1].copy(),torch.get_rng_state()
    for bs in (1,7,64):
        data = clas_data(clas.path, val_bs=bs)
        clas.data = data
        preds,y,losses = clas.get_preds(with_loss=True)
        assert torch.allclose(preds, want, atol=1e-5)
        assert y.tolist()==[int(v) for v in data.valid_ds.labels]
        assert torch.allclose(losses, -preds.log().gather(1, y[:,None].long())[:,0], atol=1e-5)
        few = clas.get_preds(n_batch=1)[0]
        assert len(few)<=bs
    assert np.array_equal(state[0], np.random.get_state()[1]) and torch.equal(state[1], torch.get_rng_state())
    many = clas.predict(texts, bs=5)
    assert torch.allclose(torch.stack([o[2] for o in many]), want, atol=1e-6)
    unordered = clas.get_preds(ordered=False)[0]
    assert not torch.equal(unordered, want) and torch.allclose(unordered.sum(0), want.sum(0), atol=1e-4)

def test_preds_of_train(clas):
    "Check 24: the order of the training set, too, and every one of its documents"
    texts = [clas.data.train_ds.raw_text(i) for i in range(len(clas.data.train_ds))]
    preds,y = clas.get_preds(DatasetType.Train)[:2]
    assert torch.allclose(preds, torch.stack([o[2] for o in clas.predict(texts)]), atol=1e-5)

def test_predict_triple(clas):
    "v1's triple: category, index, probabilities; training flags as they were"
    clas.model.train()
    cat,i,p = clas.predict('a great film')
    assert str(cat) in ('neg','pos') and str(cat)==clas.data.classes[int(i)] and int(i)==int(p.argmax())
    assert abs(float(p.sum())-1)<1e-5 and clas.model.training
    assert clas.predict([])==[]

@pytest.mark.parametrize('text', ['', '   ', '\n\n', 'nul \x00 in it', '\x01\x02', 'lone \ud800 surrogate', '😀'*50, 'a'*100_000, '<br /> &amp;'])
def test_odd_texts(clas, text):
    "Bad input: empty and blank texts, NUL and control characters, lone surrogates; finite, and the same in a batch"
    p = clas.predict(text)[2]
    assert torch.isfinite(p).all()
    assert torch.allclose(clas.predict(['a great film', text, 'x '*40])[1][2], p, atol=1e-6)

def test_megabyte(clas):
    "Bad input: a text of 1 MB"
    assert torch.isfinite(clas.predict('extraordinarilylong great '*40_000)[2]).all()

@pytest.mark.parametrize('text', [None, 3, float('nan'), b'bytes', [None], ['ok', 3], {'text': 'a film'}, {'a film'}])
def test_no_text(clas, text):
    "Bad input: what is no text is named"
    with pytest.raises(TypeError, match='text'): clas.predict(text)

def test_threads(clas):
    "B14: many threads predict at once and get what one would get, though the model starts in train mode"
    texts = [clas.data.valid_ds.raw_text(i) for i in range(len(clas.data.valid_ds))]
    want,got = [clas.predict(t)[2] for t in texts],{}
    clas.model.train()
    def work(k): got[k] = [clas.predict(t)[2] for t in texts]
    ts = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in ts: t.start()
    for t in ts: t.join()
    assert all(torch.allclose(a, b, atol=1e-6) for v in got.values() for a,b in zip(v, want)) and len(got)==6
    assert clas.model.training and clas.model[1].training

def test_head(tmp_path):
    "B18: `ps` is a number or a list; a partial configuration is merged with the default"
    data = clas_data(tmp_path)
    a = text_classifier_learner(data, AWD_LSTM, config=small, lin_ftrs=[7,6], ps=.3, pretrained=False, silent=True)
    b = text_classifier_learner(data, AWD_LSTM, config=small, lin_ftrs=[7,6], ps=[.3,.3,.3], pretrained=False, silent=True)
    drops = lambda m: [o.p for o in m.model[1].modules() if isinstance(o, nn.Dropout)]
    assert drops(a)==drops(b)==[.3,.3,.3]
    assert encoder_of(a.model).emb_sz==12 and encoder_of(a.model).n_layers==2

def test_groups(clas, lm):
    "Check 22: groups hold every parameter once; freezing leaves the last one and BatchNorm"
    for learn,n in ((clas,4),(lm,3)):
        assert len(learn.layer_groups)==n
        ps = [p for g in learn.layer_groups for p in g.parameters()]
        assert {id(p) for p in ps}=={id(p) for p in learn.model.parameters()}
        learn.freeze()
        assert all(p.requires_grad for p in learn.layer_groups[-1].parameters())
        assert not any(p.requires_grad for g in learn.layer_groups[:-1] for p in g.parameters())

def test_unlike_labels(tmp_path):
    "Several labels a document, and numbers: predict gives what they are"
    df = frame()
    df['tags'] = ['a;b' if i%3 else 'b' for i in range(len(df))]
    data = TextClasDataBunch.from_df(tmp_path, df[:44], df[44:], text_cols='text', label_cols='tags', label_delim=';', bs=8)
    cat,hot,p = text_classifier_learner(data, AWD_LSTM, config=small, pretrained=False, silent=True).predict('a fine film')
    assert hot.tolist()==[float(o>=.5) for o in p] and len(p)==2
    df['num'] = np.linspace(0, 1, len(df))
    data = TextList.from_df(df, tmp_path, cols='text').split_by_idx(range(44, 60)).label_from_df('num').databunch(bs=8)
    learn = text_classifier_learner(data, AWD_LSTM, config=small, pretrained=False, silent=True)
    assert data.c==1 and torch.isfinite(learn.predict('a fine film')[2]).all()

# ---- export

def test_export(clas, tmp_path):
    "Check 25: a fresh process on another path gives the same predictions"
    import shutil
    texts = ['a great film', '', 'GREAT!!!! http://x.org\n\nnot <br /> awful', 'never-seen words']
    want = [o[2].tolist() for o in clas.predict(texts)]
    clas.export()
    far = tmp_path/'far away'
    far.mkdir()
    shutil.move(tmp_path/'export.tnb', far/'export.tnb')
    code = "import sys, json\nfrom textnb.learn import load_learner\nl = load_learner(sys.argv[1])\n" \
        "print(json.dumps([[o[2].tolist() for o in l.predict(json.loads(sys.argv[2]))], l.data.classes, l.model.training]))"
    out = subprocess.run([sys.executable, '-c', code, str(far), json.dumps(texts)], capture_output=True, text=True, cwd=far)
    assert out.returncode==0, out.stderr
    got,classes,training = json.loads(out.stdout.splitlines()[-1])
    assert np.abs(np.array(got)-np.array(want)).max()<1e-6 and classes==list(clas.data.classes) and training is False

def test_export_lm(lm, tmp_path):
    "A language model, too: and it writes the same text"
    want = lm.predict('the film', 12, seed=3)
    lm.export('lm.tnb')
    again = load_learner(tmp_path, 'lm.tnb')
    assert isinstance(again, LanguageLearner) and again.predict('the film', 12, seed=3)==want
    again = text_classifier_learner(clas_data(tmp_path), AWD_LSTM, config=small, pretrained_fnames=tmp_path/'lm.tnb', silent=True)
    assert not again.load_report.missing

def test_export_keeps_config(tmp_path):
    "The head and the dropouts come back as they were"
    learn = text_classifier_learner(clas_data(tmp_path), AWD_LSTM, config=small, bptt=9, max_len=18, lin_ftrs=[5,4], ps=.2, drop_mult=.3, pretrained=False, silent=True)
    learn.export()
    again = load_learner(tmp_path)
    assert repr(again.model)==repr(learn.model) and again.model[0].max_len==18 and again.model[0].bptt==9
    assert torch.equal(again.predict('a great film '*20)[2], learn.predict('a great film '*20)[2])

def damage(p, how):
    b = p.read_bytes()
    if how=='half': p.write_bytes(b[:len(b)//2])
    elif how=='empty': p.write_bytes(b'')
    elif how=='text': p.write_text('not an archive')
    else:
        with zipfile.ZipFile(p) as z: parts = {n:z.read(n) for n in z.namelist()}
        name = next(n for n in parts if n.endswith('meta.json' if how=='meta' else '.safetensors'))
        parts[name] = parts[name].replace(b'neg', b'pos') if how=='meta' else parts[name][:-1]+bytes([parts[name][-1]^1])
        with zipfile.ZipFile(p, 'w') as z:
            for n,v in parts.items(): z.writestr(n, v)

@pytest.mark.parametrize('how', ['half','empty','text','meta','weights'])
def test_damaged_archive(clas, tmp_path, how):
    "Bad input: a truncated or tampered archive is refused, by name"
    p = clas.export()
    damage(p, how)
    with pytest.raises(ArchiveError, match='export.tnb'): load_learner(tmp_path)

def test_wrong_kind(lm, tmp_path):
    "An encoder is no learner, and a file that is not there says so"
    p = lm.save_encoder('enc')
    with pytest.raises(ArchiveError, match='load_encoder'): load_learner(p)
    with pytest.raises(FileNotFoundError, match='nothing.tnb'): load_learner(tmp_path, 'nothing.tnb')

def test_export_without_recipe(clas):
    "A learner put together by hand says why it cannot be exported"
    learn = RNNLearner(clas.data, clas.model, silent=True)
    with pytest.raises(ValueError, match='recipe'): learn.export()

def test_rules_in_export(tmp_path):
    "B11: a rule of one's own, registered by name, travels with the export"
    @register_rule
    def shout_to_star(t): return t.replace('!', ' * ')
    tok = Tokenizer(WordTokenizer, pre_rules=[*defaults.text_pre_rules, shout_to_star])
    learn = text_classifier_learner(clas_data(tmp_path, tokenizer=tok), AWD_LSTM, config=small, pretrained=False, silent=True)
    learn.export()
    assert load_learner(tmp_path).data.tokens('wow!')==learn.data.tokens('wow!')

@pytest.mark.parametrize('backend', ['sentencepiece','tokenizers'])
def test_subword_export(tmp_path, backend):
    "Check 25: a sub-word model travels inside the export, and a language model writes whole words with it"
    pytest.importorskip(backend)
    texts = list(frame().text)
    tok = Tokenizer(SubwordTokenizer.train(texts, 60, backend=backend))
    learn = text_classifier_learner(clas_data(tmp_path, tokenizer=tok), AWD_LSTM, config=small, pretrained=False, silent=True)
    p = learn.export()
    again = load_learner(p.rename(tmp_path/'elsewhere.tnb'))
    for t in ('a great film', 'Unheard of GREATNESS!!!!', ''):
        assert again.data.tokens(t)==learn.data.tokens(t) and torch.equal(again.predict(t)[2], learn.predict(t)[2])
    lm = language_model_learner(lm_data(tmp_path, tokenizer=tok), AWD_LSTM, config=small, pretrained=False, silent=True)
    assert '▁' not in lm.predict('a great film', 20, seed=0) and lm.predict('a great film', 20, seed=0).startswith('a great film')

def test_test_set(clas, tmp_path):
    "`load_learner(test=…)` predicts a test set in its order"
    clas.export()
    again = load_learner(tmp_path, test=['a great film', 'dull', 'one long lovely night of music'])
    preds = again.get_preds(DatasetType.Test)[0]
    assert torch.allclose(preds, torch.stack([o[2] for o in clas.predict(['a great film', 'dull', 'one long lovely night of music'])]), atol=1e-6)

def test_loaded_state(clas, tmp_path):
    "A loaded learner is in eval mode and knows its path and its words"
    clas.export()
    again = load_learner(tmp_path)
    assert not any(m.training for m in again.model.modules()) and again.path==tmp_path and repr(again.data.vocab)==repr(clas.data.vocab)

# ---- training

def test_training_learns(tmp_path):
    "Check 25, in small: language model, encoder, classifier; better than guessing on labels that hang on one word"
    set_seed(1)
    lm = language_model_learner(lm_data(tmp_path), AWD_LSTM, config=dict(emb_sz=24, n_hid=32, n_layers=1), drop_mult=.1, pretrained=False, silent=True)
    lm.fit_one_cycle(2, 5e-3)
    lm.save_encoder('enc')
    learn = text_classifier_learner(clas_data(tmp_path, vocab=lm.data.vocab), AWD_LSTM, config=dict(emb_sz=24, n_hid=32, n_layers=1), drop_mult=.1, pretrained=False, silent=True)
    learn.load_encoder('enc')
    learn.unfreeze()
    learn.fit_one_cycle(8, 2e-2)
    assert float(learn.validate()[1])>.7

def test_human_numbers(tmp_path):
    "Check 25: v1's own test: one layer of 100, three epochs of SGD on numbers in words, accuracy above .3"
    set_seed(0)
    nums = human_numbers()
    df = [pd.DataFrame(dict(label=0, text=[' '.join(nums.text[nums.is_valid==v][:n])])) for v,n in ((False,7000), (True,500))]
    data = TextLMDataBunch.from_df(tmp_path, *df, bs=32, bptt=30, min_freq=1, text_cols='text', label_cols='label')
    learn = language_model_learner(data, AWD_LSTM, config=dict(emb_sz=100, n_hid=100, n_layers=1), pretrained=False, silent=True, drop_mult=.1,
        opt_func=partial(torch.optim.SGD, momentum=.9))
    learn.fit(3, 1)
    assert float(learn.validate()[1])>.3

# ---- the right learner for the data

def test_wrong_kind_of_data(clas, lm):
    "A factory that gets the other kind of data says which kind it wants"
    with pytest.raises(TypeError, match='wants data for language modelling.*TextClasDataBunch'): language_model_learner(clas.data, AWD_LSTM, config=small, pretrained=False)
    with pytest.raises(TypeError, match='wants texts with labels.*TextLMDataBunch'): text_classifier_learner(lm.data, AWD_LSTM, config=small, pretrained=False)

def test_language_model_without_generate(lm):
    "A language model has no category to predict: without the module that writes, `predict` and `show_results` name it"
    for f in (lambda: RNNLearner.predict(lm, 'the film'), lambda: RNNLearner.show_results(lm)):
        with pytest.raises(NotImplementedError, match='from textnb.write import'): f()

def test_bytes_are_no_text(clas):
    with pytest.raises(TypeError, match="must be a str, not bytes"): clas.predict(b'a film')

def test_a_loaded_learner_has_no_data(clas):
    "What needs data says so, where a number without meaning would come out"
    learn = load_learner(clas.export().parent, silent=True)
    with pytest.raises(ValueError, match='no validation set'): learn.validate()
    with pytest.raises(ValueError, match='nothing to show'): learn.show_results()
    with pytest.raises(ValueError, match='exported'): learn.fit(1)

def test_files_of_all_kinds(clas, lm, tmp_path):
    "What `save`, `export` and `save_encoder` wrote: each reader takes it or names the one that does"
    lm.save('saved')
    files = [lm.file_for('saved'), lm.export('exported.tnb'), lm.save_encoder('enc')]
    enc = lm.model[0].encoder.weight
    make = lambda: text_classifier_learner(clas_data(tmp_path, vocab=lm.data.vocab), AWD_LSTM, config=small, pretrained=False, silent=True)
    for f in files:
        for learn in (make().load_encoder(f), make().load_pretrained(f)): assert torch.equal(learn.model[0].module.encoder.weight, enc)
    for f,kind in zip(files[1:], ('a learner','an encoder')):
        with pytest.raises(ValueError, match=f'not written by `save`: it holds {kind}'): lm.load(f)
    for f in (files[0],files[2]):
        with pytest.raises(ArchiveError, match='not a learner: load it with'): load_learner(f)
    save_archive(tmp_path/'none.tnb', tensors=dict(a=torch.zeros(2)), meta=dict(kind='encoder'))
    with pytest.raises(ValueError, match='holds no text encoder'): make().load_encoder(tmp_path/'none.tnb')
