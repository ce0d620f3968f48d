"Splits that do not leak, labels that can be kept, sets without labels, vocabularies with their tokenizers"
import datetime
import json
import pickle
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from textnb.all import (
    AWD_LSTM, BaseTokenizer, CategoryList, FloatList, MultiCategoryList, SPProcessor, SubwordTokenizer, TextClasDataBunch,
    TextClassificationInterpretation, TextLMDataBunch, TextList, Tokenizer, Vocab, load_data, text_classifier_learner)
from textnb.base import DatasetType
from textnb.text import (
    draw_parts, split_rows, split_words, text_groups, text_key, uncut_script, unknown_note, unknown_share)

WORDS = 'alpha beta gamma delta epsilon zeta eta theta iota kappa lamda mu nu xi omicron pi rho sigma tau upsilon'.split()

def frame(n=60, seed=0):
    "`n` different texts with labels that are in them"
    rng = np.random.default_rng(seed)
    texts = [f'{["bad","good"][i%2]} {" ".join(rng.choice(WORDS, 6))} number{i}' for i in range(n)]
    return pd.DataFrame(dict(label=['neg','pos']*(n//2), text=texts))

def bunch(df, valid=None, **kw):
    return TextClasDataBunch.from_df('.', df, df[:0] if valid is None else valid,
        **{**dict(text_cols='text', label_cols='label', bs=8, n_workers=0), **kw})

def told(f, *args, **kwargs):
    "What `f` returns, and all that it warned of, as one string"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        res = f(*args, **kwargs)
    return res, ' | '.join(str(o.message) for o in seen)

# Splits

def doubled():
    "300 rows, 100 of which are a text that another row has, some with other capitals and spaces"
    df = frame(200)
    again = df[:100].assign(text=[o.upper() if i%2 else f' {o}  ' for i,o in enumerate(df.text[:100])])
    return pd.concat([df, again], ignore_index=True)

def sides(split): return [set(map(text_key, part.items)) for part in (split.train, split.valid, split.test) if part is not None]

@pytest.mark.parametrize('kw', [{}, dict(stratify='label'), dict(test_pct=.1), dict(stratify='label', test_pct=.2)], ids=str)
def test_equal_texts_are_on_one_side(kw):
    il = TextList.from_df(doubled(), cols='text')
    for seed in range(5):
        s = il.split_by_rand_pct(.2, seed=seed, **kw)
        parts = sides(s)
        assert sum(map(len, parts))==200==len(set.union(*parts))
        assert abs(len(s.valid)-60)<=2 and len(s.train)+len(s.valid)+(len(s.test) if s.test else 0)==300
        again = il.split_by_rand_pct(.2, seed=seed, **kw)
        assert list(s.valid.items)==list(again.valid.items) and list(s.train.items)==list(again.train.items)

def test_without_duplicates_a_seed_gives_the_split_of_fastai():
    il = TextList.from_df(frame(), cols='text')
    p = np.random.RandomState(3).permutation(60)
    for kw in ({}, dict(test_pct=.3), dict(by_text=False)): assert list(il.split_by_rand_pct(.2, seed=3, **kw).valid.items)==list(il.items[p[:12]])
    assert list(il.split_by_rand_pct(.2, seed=3, test_pct=.3).test.items)==list(il.items[p[12:30]])
    s = il.split_subsets(.5, .2, seed=3)
    assert list(s.train.items)==list(il.items[p[:30]]) and list(s.valid.items)==list(il.items[p[48:]])

def test_subsets_share_no_text():
    s = TextList.from_df(doubled(), cols='text').split_subsets(.5, .3, seed=0)
    assert not set.intersection(*sides(s)) and len(s.train)==150 and abs(len(s.valid)-90)<=2

def test_files_with_equal_contents_are_on_one_side(tmp_path):
    for i in range(40): (tmp_path/f'{i}.txt').write_text(f'text number {i//2}')
    s = TextList.from_folder(tmp_path).split_by_rand_pct(.25, seed=0)
    assert len(s.valid)==10 and not set.intersection(*sides(s))

def test_ids_are_grouped_where_there_are_no_texts():
    data = TextLMDataBunch.from_df('.', doubled(), doubled(), text_cols='text', n_workers=0)
    ids = TextList([], vocab=data.vocab, store=data.train_ds.store)
    s = ids.split_by_rand_pct(.2, seed=1)
    a,b = ({tuple(o) for o in part.store} for part in (s.train, s.valid))
    assert len(s.valid)==60 and not a & b

def test_few_large_groups():
    assert [len(o) for o in draw_parts(np.array([0,0,0,0,1,1,1,1]), [2], np.random.RandomState(0))]==[4,4]
    assert [len(o) for o in draw_parts(np.zeros(8, int), [2], np.random.RandomState(0))]==[0,8]
    df = pd.DataFrame(dict(label=['a','b']*20, text=['ok']*30+[f'other {i}' for i in range(10)]))
    s = TextList.from_df(df, cols='text').split_by_rand_pct(.2, seed=0)
    assert len(s.valid)==8 and 'ok' not in s.valid.items

@pytest.mark.parametrize('seed', range(5))
def test_stratified(seed):
    labels = ['often']*90+['seldom']*7+['twice']*2+['once']
    df = pd.DataFrame(dict(label=labels, text=[f'text {i}' for i in range(100)]))
    s = TextList.from_df(df, cols='text').split_by_rand_pct(.2, seed=seed, stratify='label', test_pct=.1)
    counts = [Counter(part.inner_df.label) for part in (s.train, s.valid, s.test)]
    assert counts[1]==dict(often=18, seldom=1, twice=1) and counts[2]==dict(often=9, seldom=1)
    assert counts[0]==dict(often=63, seldom=5, twice=1, once=1)

def test_from_csv_draws_the_same_way(tmp_path):
    doubled().to_csv(tmp_path/'t.csv', index=False)
    for kw in ({}, dict(stratify=True), dict(test_pct=.1, stratify=True)):
        data,said = told(TextClasDataBunch.from_csv, tmp_path, 't.csv', seed=1, n_workers=0, **kw)
        assert set(data.shared_texts.values())=={0} and 'occur in training' not in said
        assert abs(len(data.valid_ds)-61)<=2
        if kw: assert abs(data.valid_ds.labels.mean()-.5)<.02
    assert len(data.test_ds)==30 and data.test_ds.y.kind=='category' and set(data.test_ds.labels)=={0,1}
    data,said = told(TextClasDataBunch.from_csv, tmp_path, 't.csv', seed=1, n_workers=0, by_text=False)
    assert data.shared_texts['valid']>5 and f'{data.shared_texts["valid"]} of the 61 validation texts occur in training' in said
    with pytest.raises(ValueError, match='leave nothing to train on'): TextClasDataBunch.from_csv(tmp_path, 't.csv', .6, test_pct=.4)

def test_given_splits_say_what_they_share():
    df = frame()
    data,said = told(bunch, df[20:], df[:30])
    assert data.shared_texts==dict(valid=10) and '10 of the 30 validation texts occur in training as well' in said
    assert 'Valid: 30 texts, 10 of them in training as well' in repr(data)
    data.add_test(list(df.text[:25]), label=list(df.label[:25]))
    assert data.shared_texts==dict(valid=10, test=5)
    assert told(bunch, df[30:], df[:30])[1]==''
    data = TextLMDataBunch.from_df('.', df, df, text_cols='text', n_workers=0)
    assert data.shared_texts==dict(valid=60)

@pytest.mark.parametrize('words', [('train','valid'),('Training','Validation'),('TRAIN ','dev'),('trn','val'),(False,True),(0,1),('0','1'),
    (0.,1.),('no','yes'),('F','T'),(np.False_,np.True_)], ids=str)
def test_words_of_a_split(words):
    df = frame().assign(split=[words[i%4==0] for i in range(60)])
    s = TextList.from_df(df, cols='text').split_from_df('split')
    assert len(s.train)==45 and list(s.valid.items)==list(df.text[::4]) and s.test is None

def test_test_rows_are_the_test_set_with_labels():
    df = frame(80).assign(split=[['train','train','validation','test'][i//2%4] for i in range(80)])
    s = TextList.from_df(df, cols='text').split_from_df('split')
    assert [len(s.train),len(s.valid),len(s.test)]==[40,20,20] and repr(s)=='ItemLists: 40 train, 20 valid, 20 test'
    data = s.label_from_df('label').databunch(bs=8)
    want = df[df.split=='test']
    assert [data.test_ds.raw_text(i) for i in range(20)]==list(want.text) and [str(y) for y in data.test_ds.y]==list(want.label)
    lm = s.label_for_lm().databunch(bs=2)
    assert len(lm.test_ds)==20 and lm.test_ds.y.kind=='lm'

def test_valid_col_of_from_csv(tmp_path):
    df = frame(80).assign(split=[['train','train','dev','test'][i//2%4] for i in range(80)])
    df.to_csv(tmp_path/'t.csv', index=False)
    data = TextClasDataBunch.from_csv(tmp_path, 't.csv', valid_col='split', n_workers=0)
    assert [len(o) for o in (data.train_ds, data.valid_ds, data.test_ds)]==[40,20,20]
    assert [data.valid_ds.raw_text(i) for i in range(20)]==list(df.text[df.split=='dev'])
    with pytest.raises(ValueError, match='two test sets'): TextClasDataBunch.from_csv(tmp_path, 't.csv', valid_col='split', test='t.csv')

def test_strange_words_are_counted():
    with pytest.raises(ValueError, match=r"column 'split' .*holds 'held out' \(3 rows\), 'x' \(1 row\)"): split_words(['train']*9+['held out']*3+['x'])
    with pytest.raises(ValueError, match=r'holds 2\.0 \(2 rows\), nan \(1 row\)\.$'): split_words([0,1,2.,2.,float('nan')])
    with pytest.raises(ValueError, match="Did you mean 'validation'"): split_words(['train','validaton'])
    (train,valid,test),said = told(split_rows, ['train','test','test'])
    assert (train.tolist(),valid.tolist(),test)==([0],[1,2],None) and 'none for validation' in said

def test_groups():
    assert text_groups(['a b','A  B ','ab',('a','b'),['a','b']]).tolist()==[0,0,1,2,2]
    assert text_groups(['ß','SS','ss']).tolist()==[0,0,0]

# Labels

def test_blanks_around_labels_do_not_count():
    df = frame()
    df['label'] = [o+' '*(i%7==0) for i,o in enumerate(df.label)]
    for kw in ({}, dict(classes=['neg','pos','neg ']), dict(classes=np.array([' pos','neg'])[::-1])):
        data = bunch(df, df[:10].assign(label='pos '), **kw)
        assert data.classes==['neg','pos'] and Counter(data.train_ds.labels.tolist())=={0:30, 1:30} and set(data.valid_ds.labels)=={1}
    data.add_test(['good'], label=' pos')
    assert data.test_ds.labels.tolist()==[1]
    multi = TextList(['a','b']).split_by_idx([1]).label_from_list([['x ','y']], [['x',' y']])
    assert multi.train.classes==['x','y'] and multi.valid.labels.tolist()==[[1,1]]

@pytest.mark.parametrize('label', [datetime.date(2020,1,1), pd.Timestamp('2020-01-01'), datetime.datetime(2020,1,1), np.datetime64('2020-01-01'),
    pd.Period('2020'), 1j, frozenset, {'a':1}], ids=str)
def test_labels_that_no_file_can_hold(label):
    df = frame()
    df['label'] = np.array([label if i%2 else 'a' for i in range(60)], dtype=object)
    with pytest.raises((TypeError,ValueError), match=r'a label is a word, a number, True or False.*astype\(str\)'): bunch(df)
    with pytest.raises(TypeError, match='a label is a word'): bunch(frame(), classes=['neg','pos',label])

@pytest.mark.parametrize('values', [[True,False],[1,0],['1','0'],[3,7],[np.int64(1),np.int64(2)],[np.str_('a'),np.str_('b')],[2**70,1]], ids=str)
def test_labels_survive_the_file(tmp_path, values):
    df = frame()
    df['label'] = np.array([values[i%2] for i in range(60)], dtype=object)
    data = bunch(df, df[:10])
    data.path = tmp_path
    data.save('d')
    again = load_data(tmp_path, 'd')
    assert again.classes==data.classes==sorted(values) and [type(o) for o in again.classes]==[type(o) for o in data.classes]
    assert all(type(o) in (bool,int,str) for o in data.classes) and json.loads(json.dumps(data.export_state()))['classes']==data.classes

def test_empty_and_missing_labels():
    for wrong,match in (('', '2 of the 60 training labels are empty'), ('  ', 'are empty')):
        df = frame()
        df.loc[[3,5],'label'] = wrong
        with pytest.raises(ValueError, match=match): bunch(df)
    df = frame()
    for wrong in (None, float('nan'), pd.NA):
        labels = list(df.label)
        labels[4] = wrong
        with pytest.raises(ValueError, match='1 of the 60 training labels are missing'):
            TextList(df.text).split_none().label_from_list(labels)
    data = bunch(df.assign(label=['a;b','','b','a ; b;']*15), label_delim=';')
    assert data.classes==['a','b'] and data.train_ds.labels[:4].tolist()==[[1,1],[0,0],[0,1],[1,1]]
    with pytest.raises(TypeError, match='not float nan'): TextList(['a','b']).split_none().label_from_list([['x'],['y',float('nan')]])

def test_labels_that_look_alike_are_told():
    df = frame()
    df.loc[0,'label'] = 'Neg'
    assert "'Neg' and 'neg' are different classes" in told(bunch, df)[1]
    labels = np.array([1,'1',2]*20, dtype=object)
    assert "1 and '1' are different classes" in told(bunch, df.assign(label=labels))[1]
    assert "label_delim='|' is in none of the 60 training labels" in told(bunch, df, label_delim='|')[1]

def test_enough_texts_of_each_class():
    df = frame(20)
    with pytest.raises(ValueError, match=r"each of the 20 training texts has a class of its own \(such as 'c0'\)"):
        bunch(df.assign(label=[f'c{i}' for i in range(20)]))
    assert "1 of 3 classes have only one training text, and nothing to check with: 'rare'" in told(bunch, df.assign(label=['rare',*'ab'*9,'a']))[1]
    said = told(bunch, df, classes=['neg','pos',*'abcdefghijklmnopqrstuvw'])[1]
    assert 'fewer training texts (20) than classes (25)' in said and '23 of 25 classes have no training text' in said
    assert "there is only one class, 'a'" in told(bunch, df.assign(label='a'))[1]
    assert told(bunch, df)[1]==''
    assert 'fewer training texts (20) than classes (40)' in told(bunch, df.assign(label=[f'{i};{i+20}' for i in range(20)]), label_delim=';')[1]

def test_rows_of_ones_and_zeros():
    lists = TextList(['a','b']).split_none()
    assert 'give one_hot=True' in told(lists.label_from_list, [[1,0],[0,1]])[1]
    lists,said = told(lists.label_from_list, [[1,0],[0,1]], label_cls=MultiCategoryList, one_hot=True, classes=['x','y'])
    assert lists.train.labels.tolist()==[[1,0],[0,1]] and said==''

def test_columns_of_yes_and_no():
    df = frame()
    for yes,no in (('yes','no'),('Y','N'),(True,False),('1','0'),(1.,0.)):
        wide = df.assign(a=[yes,no]*30, b=[no,no,yes]*20)
        data = bunch(wide, wide[:9], label_cols=['a','b'])
        assert data.train_ds.y.kind=='multi' and data.classes==['a','b']
        assert data.train_ds.labels[:3].tolist()==[[1,0],[0,0],[1,1]]
    data,said = told(bunch, df.assign(a=[0,1]*30, b=[0,1,2]*20), label_cols=['a','b'])
    assert data.train_ds.y.kind=='float' and 'the whole numbers 0, 1, 2' in said and 'regression' in said
    with pytest.raises(ValueError, match=r"there are 'maybe' \(20 times\).*columns of 0 and 1"):
        bunch(df.assign(a=[0,1]*30, b=['0','1','maybe']*20), label_cols=['a','b'])
    with pytest.raises(ValueError, match="'maybe' is among them"): MultiCategoryList([[0,'maybe']], ['a','b'], one_hot=True).encode()

def test_numbers_or_classes():
    df = frame()
    data,said = told(bunch, df.assign(label=[0.,1.]*30))
    assert data.train_ds.y.kind=='float' and 'the whole numbers 0.0, 1.0' in said and 'astype(int)' in said
    assert told(bunch, df.assign(label=[.5,1.]*30))[1]==''
    mixed = TextList(df.text).split_none().label_from_list([1,2.5]*30)
    assert mixed.train.y.kind=='float' and mixed.train.labels[:2].tolist()==[1,2.5]
    assert TextList(df.text).split_none().label_from_list(['a',['a','b']]*30).train.labels[:2].tolist()==[[1,0],[1,1]]
    with pytest.raises(ValueError, match=r"there are 'good' \(30 times\)"):
        TextList(df.text).split_none().label_from_list(['good','3']*30, label_cls=FloatList)
    with pytest.raises(TypeError, match='put one name into a list'): CategoryList(['neg'], classes='neg')

# Texts without labels

@pytest.fixture(scope='module')
def learn():
    df = frame()
    data = bunch(df[12:], df[:12])
    return text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=8, n_hid=8, n_layers=1), pretrained=False, silent=True)

def test_unlabelled_sets_are_predicted_and_never_measured(learn):
    data = learn.data.add_test(list(frame(30, 1).text))
    assert 'no labels' in repr(data) and learn.get_preds(DatasetType.Test)[0].shape==(30,2)
    probs = learn.get_preds(DatasetType.Test)[0]
    for f in (lambda: learn.validate(data.test_dl), lambda: learn.get_preds(DatasetType.Test, with_loss=True),
        lambda: learn.interpret(DatasetType.Test), lambda: TextClassificationInterpretation.from_learner(learn, DatasetType.Test),
        lambda: list(learn.iter_preds(data.test_dl, with_loss=True)),
        lambda: TextClassificationInterpretation.from_preds(learn, probs, DatasetType.Test)):
        with pytest.raises(ValueError, match=r'these 30 texts have no labels.*data.add_test\(texts, label=labels\)'): f()
    learn.show_results(DatasetType.Test, rows=1)

def test_labelled_test_sets_are_measured(learn):
    test = frame(30, 1)
    data = learn.data.add_test(list(test.text), label=list(test.label))
    right = learn.get_preds(DatasetType.Test)[0].argmax(1).numpy()==[data.classes.index(o) for o in test.label]
    interp = learn.interpret(DatasetType.Test)
    assert len(interp)==30 and (interp.pred_class==interp.y_true).float().mean().item()==pytest.approx(right.mean())
    assert learn.validate(data.test_dl)[0]==pytest.approx(float(interp.losses.mean()), abs=1e-5)

def test_language_models_are_measured_on_their_test_set():
    df = frame()
    data = TextLMDataBunch.from_df('.', df[10:], df[:10], df[['text']][:5], text_cols='text', bs=2, n_workers=0)
    assert data.test_ds.y.kind=='lm'

def test_tables_and_folders_bring_their_labels(tmp_path):
    df = frame()
    data = bunch(df[12:], df[:12], test_df=df[:5])
    assert [str(o) for o in data.test_ds.y]==list(df.label[:5])
    assert bunch(df[12:], df[:12], test_df=df[['text']][:5]).test_ds.y.kind=='empty'
    assert bunch(df[12:], df[:12], test_df=df[:5].assign(label=None)).test_ds.y.kind=='empty'
    data,said = told(bunch, df[12:], df[:12], test_df=df[:5].assign(label='?'))
    assert data.test_ds.y.kind=='empty' and len(data.test_ds)==5 and 'taken as unlabelled' in said
    wide = df.assign(a=[0,1]*30, b=[1,0]*30)
    assert bunch(wide, wide[:6], label_cols=['a','b'], test_df=wide[:4]).test_ds.labels.tolist()==[[0,1],[1,0]]*2
    for i,row in enumerate(df.itertuples()):
        f = tmp_path/('train','valid','test')[i%3]/row.label/f'{i}.txt'
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text(row.text)
    data = TextClasDataBunch.from_folder(tmp_path, test='test', n_workers=0)
    assert [str(o) for o in data.test_ds.y]==[o.parent.name for o in data.test_ds.x.raw] and len(data.test_ds)==20
    (tmp_path/'test'/'other').mkdir()
    (tmp_path/'test'/'other'/'1.txt').write_text('good')
    assert TextClasDataBunch.from_folder(tmp_path, test='test', n_workers=0).test_ds.y.kind=='empty'

# Vocabulary and tokenizer

TEXTS = [f'the {a} {b} walked and {c}ed to the {b}s' for a in ('old','young','tired') for b in ('farmer','neighbour') for c in ('talk','whisper','shout')]*3

def subword_lm(tmp_path, **kw):
    df = pd.DataFrame(dict(text=TEXTS))
    return TextLMDataBunch.from_df(tmp_path, df, df[:6], text_cols='text', bs=2, processor=SPProcessor(vocab_sz=60, n_cpus=0, **kw))

def test_subwords_go_with_the_vocabulary(tmp_path):
    lm = subword_lm(tmp_path)
    df = pd.DataFrame(dict(label=['a','b']*27, text=TEXTS))
    want = [o.tolist() for o in lm.train_ds.store]
    ways = [dict(vocab=lm.vocab), dict(processor=lm.processor), dict(processor=SPProcessor.load(tmp_path)),
        dict(processor=SPProcessor(sp_model=tmp_path/'tmp'/'spm.model', sp_vocab='not needed')), dict(processor=SPProcessor(), vocab=lm.vocab),
        dict(vocab=pickle.loads(pickle.dumps(lm.vocab)))]
    lm.vocab.save(tmp_path/'itos.pkl')
    ways.append(dict(vocab=Vocab.load(tmp_path/'itos.pkl')))
    for kw in ways:
        data = bunch(df, **kw)
        assert [o.tolist() for o in data.train_ds.store]==want and unknown_share(data.train_ds.store.ids, data.vocab)==0
        assert data.encode(TEXTS[0]).tolist()==want[0]
    data = TextList(TEXTS, vocab=lm.vocab).split_none().label_const('a').databunch()
    assert [o.tolist() for o in data.train_ds.store]==want
    data = TextClasDataBunch.from_ids('.', lm.vocab, want, want, train_lbls=[0,1]*27, valid_lbls=[0,1]*27, classes=['a','b'])
    assert data.encode(TEXTS[0]).tolist()==want[0]
    with pytest.raises(ValueError, match='made with another tokenizer'): bunch(df, vocab=lm.vocab, tokenizer=Tokenizer())
    words = bunch(df).vocab
    with pytest.raises(ValueError, match='there is a vocabulary of words already'): bunch(df, processor=SPProcessor(), vocab=words)
    assert 'of the words in the training texts are not in the vocabulary' in told(bunch, df, vocab=list(lm.vocab.itos))[1]

def test_data_that_are_saved_keep_them_together(tmp_path):
    lm = subword_lm(tmp_path)
    lm.save('lm.tnb')
    again = load_data(tmp_path, 'lm.tnb')
    assert again.vocab.tokenizer.same_as(lm.tokenizer)
    df = pd.DataFrame(dict(label=['a','b']*27, text=TEXTS))
    assert bunch(df, vocab=again.vocab).encode(TEXTS[0]).tolist()==lm.encode(TEXTS[0]).tolist()

def test_models_of_subwords_are_written_where_fastai_had_them(tmp_path):
    subword_lm(tmp_path, tmp_dir=None)
    assert not (tmp_path/'tmp').exists()
    with pytest.raises(FileNotFoundError, match=r'spm\.model is not there'): SPProcessor.load(tmp_path)
    lm = subword_lm(tmp_path, backend='tokenizers')
    assert SubwordTokenizer.load(tmp_path/'tmp'/'spm.model').backend=='tokenizers'
    assert bunch(pd.DataFrame(dict(label=['a','b']*27, text=TEXTS)), processor=SPProcessor.load(tmp_path)).vocab==lm.vocab
    (tmp_path/'tmp'/'spm.model').write_bytes(b'\x00')
    with pytest.raises(ValueError, match='is not a model of sub-words'): SPProcessor.load(tmp_path)

def test_other_tokenizers_go_with_the_vocabulary_as_well():
    df = pd.DataFrame(dict(label=['a','b']*27, text=[o+'!' for o in TEXTS]))
    lm = TextLMDataBunch.from_df('.', df, df[:6], text_cols='text', tokenizer=Tokenizer(BaseTokenizer), n_workers=0)
    data = bunch(df, vocab=lm.vocab)
    assert data.tokens('the farmers!')==['xxbos','the','farmers!']
    assert bunch(df, vocab=lm.vocab, tokenizer=Tokenizer(BaseTokenizer)).vocab==lm.vocab
    with pytest.raises(ValueError, match='made with another tokenizer'): bunch(df, vocab=lm.vocab, tokenizer=Tokenizer(post_rules=[]))

def test_vocab_files(tmp_path):
    itos = ['xxunk','xxpad','a','b']
    (tmp_path/'v1.pkl').write_bytes(pickle.dumps(itos))
    for protocol in range(pickle.HIGHEST_PROTOCOL+1):
        (tmp_path/'p.json').write_bytes(pickle.dumps(itos, protocol))
        assert Vocab.load(tmp_path/'p.json').itos==itos
    Vocab(itos).save(tmp_path/'ours.pkl')
    (tmp_path/'list.txt').write_text('\ufeff'+json.dumps(itos), encoding='utf-8')
    for name in ('v1.pkl','ours.pkl'): assert Vocab.load(tmp_path/name).itos==itos
    for junk in (b'', b'junk', b'{', pickle.dumps({'a':1}), b'cos\nsystem\n(S"x"\ntR.', b'[1]'):
        (tmp_path/'junk').write_bytes(junk)
        with pytest.raises(ValueError): Vocab.load(tmp_path/'junk')

def test_itos_of_pretrained_weights_may_be_our_own_file(tmp_path, learn):
    learn.path = tmp_path
    learn.save_encoder('enc')
    learn.data.vocab.save(tmp_path/'models'/'itos.pkl')
    learn.load_pretrained('enc', 'itos')
    assert len(learn.load_report.loaded)>0

# What is not understood

def test_unknown_words_are_told():
    df = frame()
    vocab = bunch(df).vocab
    other = df.assign(text=[f'ganz andere Wörter Nummer {i} {o[:3]}' for i,o in enumerate(df.text)])
    said = told(bunch, other, vocab=vocab)[1]
    assert 'of the words in the training texts are not in the vocabulary' in said and "'ganz'" in said
    assert told(bunch, df, vocab=vocab)[1]==''
    data = bunch(df)
    assert 'the test texts are not in the vocabulary' in told(data.add_test, list(other.text))[1]
    assert told(data.add_test, list(df.text))[1]==''
    assert 'the texts to predict' in told(data.warn_unknown, ['ein anderer Text'])[1]
    assert told(data.warn_unknown, ['good alpha beta'])[1]==''

def test_predicting_tells_it(learn):
    assert 'the texts to predict' in told(learn.predict, 'ein ganz anderer Text')[1]
    assert told(learn.predict, 'good alpha beta')[1]==''

LANGUAGES = dict(Chinese='这部电影非常好看演员很棒我喜欢', Japanese='この映画はとても面白かったです', Thai='หนังเรื่องนี้ดีมากและนักแสดงเก่งมาก')

@pytest.mark.parametrize('language', LANGUAGES)
def test_languages_without_spaces(language):
    text = LANGUAGES[language]
    df = pd.DataFrame(dict(label=['neg','pos']*20, text=[f'{text}{i%7}。{text[3:]}{i%5}' for i in range(40)]))
    said = told(bunch, df)[1]
    assert language in said and 'processor=SPProcessor()' in said
    data,said = told(bunch, df, processor=SPProcessor(vocab_sz=100, n_cpus=0, tmp_dir=None))
    assert language not in said and unknown_share(data.train_ds.store.ids, data.vocab)<.1
    assert 'give --subwords' in uncut_script(list(df.text), cure='give --subwords')
    apart = [' '.join(o[i:i+2] for i in range(0, len(o), 2)) for o in df.text]
    assert uncut_script(apart) is None

def test_languages_with_spaces():
    for text in ('Eine ganz gewöhnliche Donaudampfschifffahrtsgesellschaft', 'Фильм очень хороший', '이 영화는 정말 재미있었습니다', 'فيلم جيد جدا', '🙂🙂🙂', ''):
        assert uncut_script([text]*5) is None
    assert unknown_note([], Tokenizer(), Vocab(['xxunk'])) is None

# What data are made with

def clas_options(): return dict(bs=6, val_bs=5, pad_idx=1, pad_first=False, backwards=True, seed=7, weights={'neg':1., 'pos':3.}, sampler=None)
def lm_options(): return dict(bs=3, val_bs=2, bptt=9, backwards=True, seed=7)

@pytest.mark.parametrize('kind', ['classifier','language model'])
def test_saved_data_keep_every_argument(tmp_path, kind):
    import inspect
    cls,options = (TextClasDataBunch,clas_options()) if kind=='classifier' else (TextLMDataBunch,lm_options())
    machine = {'train_ds','valid_ds','test_ds','path','device','no_check','num_workers','kwargs'}
    taken = set(inspect.signature(cls.create).parameters)-machine
    assert taken-set(options)<={'pad_idx'}, f'{taken-set(options)} is new: does it survive save and load?'
    df = frame()
    data = cls.from_df(tmp_path, df[12:], df[:12], text_cols='text', label_cols='label', n_workers=0, max_vocab=50, min_freq=2,
        include_eos=True, **options)
    data.save('d')
    again = load_data(tmp_path, 'd')
    for name,value in options.items(): assert getattr(again, 'batch_size' if name=='bs' else name)==value, name
    assert again.valid_dl.batch_size==options['val_bs'] and again.processor.state()==data.processor.state()
    assert again.export_state()==data.export_state()
    for _ in range(2):
        for a,b in zip(data.train_dl, again.train_dl): assert all((x==y).all() for x,y in zip(a, b))
    assert load_data(tmp_path, 'd', bs=2, backwards=False).batch_size==2
    assert not load_data(tmp_path, 'd', bs=2, backwards=False).backwards

def test_labels_of_saved_data_take_new_ones(tmp_path):
    df = frame().assign(a=[0,1]*30, b=['no','yes']*30)
    for kw,labels in ((dict(label_cols=['a','b']), [[1,'no']]), (dict(label_cols='label', label_delim=';'), ['neg; pos']), (dict(label_cols='label'), ['pos ']),
            (dict(label_cols=['a','b'], classes=['x','y']), [['yes',1]])):
        data = TextClasDataBunch.from_df(tmp_path, df, df[:6], text_cols='text', n_workers=0, **kw)
        data.save('d')
        again = load_data(tmp_path, 'd')
        want = data.add_test(['good'], label=labels).test_ds.labels.tolist()
        assert again.add_test(['good'], label=labels).test_ds.labels.tolist()==want
        assert again.classes==data.classes

def test_what_cannot_be_saved_is_told(tmp_path):
    df = frame()
    data = bunch(df, df[:6], sampler=lambda ds: range(len(ds)))
    data.path = tmp_path
    data.loss_func = len
    assert 'data.loss_func is not saved' in told(data.save, 'd')[1]
    assert 'give it again' in told(load_data, tmp_path, 'd')[1]
    again,said = told(load_data, tmp_path, 'd', sampler=[1,2])
    assert said=='' and again.sampler==[1,2]

# Rules

def test_repeated_words_are_counted_however_they_are_joined():
    tokenizer = Tokenizer(BaseTokenizer)
    for n in (4,5,9,30):
        for word in ('ha-','no.','ha ','so, ','x - ','ну-','a\n'):
            toks = tokenizer.process_text(word*n+'end')
            assert toks[toks.index('xxwrep')+1]==str(n), (word, n, toks)
