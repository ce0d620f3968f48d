"Tables as people have them: every format, delimiter, encoding and slip of writing, on every way in"
import csv, random
import numpy as np, pandas as pd, pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from textnb.text import (FloatList, TextClasDataBunch, TextList, TextProcessor, build_store, csv_text, csv_texts,
    folder_texts, open_text, parquet_texts, read_table, table_pieces, table_report, unescape_formula, write_table)

pytestmark = pytest.mark.filterwarnings('ignore')

# ---- what was written is read again

nasty = st.text(alphabet=st.one_of(st.sampled_from('ab,;\t|"\'\r\n =+-@ \\0é\ufeff\0'),
    st.characters(codec='utf-8')), max_size=12)
names = st.lists(nasty, min_size=1, max_size=4)
quick = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

@st.composite
def tables(draw, cell=nasty, name=nasty):
    "A table of odd strings"
    columns = draw(st.lists(name, min_size=1, max_size=4))
    rows = draw(st.lists(st.lists(cell, min_size=len(columns), max_size=len(columns)), max_size=6))
    return pd.DataFrame(rows, columns=columns, dtype=object)

def same(a, b):
    return list(a.columns)==list(b.columns) and a.to_numpy(dtype=object).tolist()==b.to_numpy(dtype=object).tolist()

@quick
@given(df=tables(), ending=st.sampled_from(['csv','tsv','psv','tab','csv.gz','tsv.xz','CSV','csv.BZ2','txt']))
def test_delimited_round_trip(tmp_path, df, ending):
    path = write_table(tmp_path/f't.{ending}', df)
    assert same(read_table(path, header=True, keep_empty=True, warn=False), df)

@quick
@given(df=tables(), delimiter=st.sampled_from([',',';','\t','|']), ending=st.sampled_from(['csv','tsv']))
def test_delimiter_is_found(tmp_path, df, delimiter, ending):
    "Another delimiter than the ending says is found out, if there is anything to divide"
    path = write_table(tmp_path/f't.{ending}', df, delimiter)
    assert same(read_table(path, header=True, keep_empty=True, warn=False), df)

@quick
@given(df=tables(name=st.sampled_from(['text','label','a b','é'])), ending=st.sampled_from(['json','jsonl','ndjson.gz']))
def test_json_round_trip(tmp_path, df, ending):
    if len(set(df.columns))<df.shape[1] or not len(df): return
    assert same(read_table(write_table(tmp_path/f't.{ending}', df)), df)

@quick
@given(df=tables(name=st.sampled_from(['text','label','a b','é'])))
def test_parquet_round_trip(tmp_path, df):
    pytest.importorskip('pyarrow')
    if len(set(df.columns))<df.shape[1]: return
    assert same(read_table(write_table(tmp_path/'t.parquet', df)), df)

@quick
@given(df=tables(), size=st.integers(1, 4))
def test_pieces_are_the_whole(tmp_path, df, size):
    path = write_table(tmp_path/'t.csv', df)
    pieces = list(table_pieces(path, size, header=True, keep_empty=True, warn=False))
    rows = [row for o in pieces for row in o.to_numpy(dtype=object).tolist()]
    assert rows==df.to_numpy(dtype=object).tolist()

@quick
@given(df=tables(), ending=st.sampled_from(['csv','tsv']))
def test_formulas_are_undone(tmp_path, df, ending):
    path = write_table(tmp_path/f't.{ending}', df, escape_formulas=True)
    back = read_table(path, header=True, keep_empty=True, warn=False)
    assert not any(o[:1] and o[0] in '=+-@\t\r' for o in back.to_numpy().ravel())
    assert same(back.map(unescape_formula) if back.size else back, df)

@quick
@given(df=tables())
def test_what_pandas_writes(tmp_path, df):
    "The files of pandas are read as pandas reads them, cells that are quoted, empty or not at all"
    if len(set(df.columns))<df.shape[1] or '' in list(df.columns): return
    text = df.to_csv(index=False, quoting=csv.QUOTE_ALL)
    (tmp_path/'t.csv').write_text(text, encoding='utf-8', newline='')
    assert same(read_table(tmp_path/'t.csv', ',', header=True, keep_empty=True, warn=False), df)

@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), nasty.map(str.encode)), ending=st.sampled_from(
    ['csv','tsv','json','jsonl','parquet','csv.gz','tsv.xz','csv.zst','xlsx','txt']))
def test_no_file_makes_a_bare_error(tmp_path, data, ending):
    "Whatever is in a file: a table, or a ValueError or OSError that names it"
    path = tmp_path/f't.{ending}'
    path.write_bytes(data)
    try: df = read_table(path, warn=False)
    except (ValueError, OSError) as e: assert f't.{ending}' in str(e)
    else: assert table_report(df).rows==len(df)

# ---- the ways of writing

def films(n=12):
    r = random.Random(0)
    words = 'good great fine bad awful dull'.split()
    rows = [' '.join(r.choices(words, k=4)) for _ in range(n)]
    return pd.DataFrame(dict(label=['neg','pos']*(n//2), text=rows))

def put(path, text, encoding='utf-8'):
    path.write_bytes(text.encode(encoding))
    return path

@pytest.mark.parametrize('name', ['a.csv','A.CSV','a.tsv','A.TSV','a.csv.gz','a.CSV.GZ','a.tsv.xz','a.csv.bz2','a.psv','a.txt',
    'a.jsonl','a.ndjson','a.JSON','a.jsonl.gz','a.parquet','a.data'])
def test_endings(tmp_path, name):
    if 'parquet' in name: pytest.importorskip('pyarrow')
    df = films()
    path = write_table(tmp_path/name, df)
    assert same(read_table(path), df)
    data = TextClasDataBunch.from_csv(tmp_path, name, text_cols='text', label_cols='label', bs=4, seed=0)
    assert data.classes==['neg','pos'] and len(data.train_ds)+len(data.valid_ds)==12
    assert list(csv_texts(path))==df.text.tolist()

@pytest.mark.parametrize('name,what', [('a.zip','an archive'), ('a.pdf','a document'), ('a.docx','a document'), ('a.db','a database'),
    ('a.pkl','for machines'), ('a.tar.gz','an archive'), ('a.tnb','a model')])
def test_what_is_no_table(tmp_path, name, what):
    (tmp_path/name).write_bytes(b'anything')
    with pytest.raises(ValueError, match=f'a.*is no table: .* is {what}'): read_table(tmp_path/name)

@pytest.mark.parametrize('head,what', [(b'PK\x03\x04','an archive'), (b'%PDF-1.7','a PDF'), (b'SQLite format 3\0','a database'),
    (b'PAR1','a Parquet file')])
def test_wrong_ending(tmp_path, head, what):
    (tmp_path/'a.csv').write_bytes(head+b'...')
    for read in (read_table, lambda p: list(csv_texts(p))):
        with pytest.raises(ValueError, match=f'a.csv is no table of text: by its first bytes it is {what}'): read(tmp_path/'a.csv')

def test_excel_is_named(tmp_path):
    (tmp_path/'a.xlsx').write_bytes(b'PK\x03\x04')
    with pytest.raises(ValueError, match='a.xlsx is (an Excel file: reading it needs|not an Excel file)'): read_table(tmp_path/'a.xlsx')

def test_zstandard_is_named(tmp_path):
    (tmp_path/'a.csv.zst').write_bytes(bytes.fromhex('28b52ffd04580100007a'))
    with pytest.raises((ValueError, OSError), match='a.csv.zst'): read_table(tmp_path/'a.csv.zst')

@pytest.mark.parametrize('encoding', ['utf-8','utf-8-sig','utf-16','utf-32','cp1252','latin-1'])
@pytest.mark.parametrize('end', ['\n','\r\n','\r'])
def test_encodings_and_ends_of_lines(tmp_path, encoding, end):
    text = end.join(['text,label','un café noir,a','"die, Straße",b','"it is\nplain",a',''])
    want = [['un café noir','a'],['die, Straße','b'],['it is\nplain','a']]
    path = put(tmp_path/'t.csv', text, encoding)
    df = read_table(path)
    assert df.to_numpy().tolist()==want and df.columns.tolist()==['text','label']
    pieces = list(table_pieces(path, 2))
    assert [row for o in pieces for row in o.to_numpy().tolist()]==want
    assert (table_report(df).encoding in ('cp1252','latin-1'))==(encoding in ('cp1252','latin-1'))

def test_encodings_that_nobody_can_tell(tmp_path):
    for text,encoding in (('Фильм мне очень понравился','cp1251'), ('电影很好看','gb18030'), ('映画が面白い','shift_jis')):
        path = put(tmp_path/'t.csv', f'text\n{text}\n', encoding)
        with pytest.raises(ValueError, match='t.csv is not UTF-8.*encoding='): read_table(path)
        assert read_table(path, encoding=encoding).text.tolist()==[text]
    with pytest.raises(ValueError, match="no encoding 'klingon'"): read_table(path, encoding='klingon')

def test_a_mark_at_the_front_goes_everywhere(tmp_path):
    put(tmp_path/'t.csv', 'text,label\nGood,a\n', 'utf-8-sig')
    for encoding in (None, 'utf-8', 'utf-8-sig'): assert 'text' in read_table(tmp_path/'t.csv', encoding=encoding)
    assert list(csv_texts(tmp_path/'t.csv'))==['Good']
    put(tmp_path/'x.jsonl', '{"text":"Good"}\n', 'utf-8-sig')
    assert read_table(tmp_path/'x.jsonl').text.tolist()==['Good']
    (tmp_path/'d').mkdir()
    for i,encoding in enumerate(('utf-8-sig','utf-16','utf-8')): put(tmp_path/'d'/f'{i}.txt', 'Good', encoding)
    assert list(folder_texts(tmp_path/'d'))==['Good']*3==[open_text(o) for o in sorted((tmp_path/'d').glob('*'))]
    il = TextList.from_folder(tmp_path/'d', processor=TextProcessor(min_freq=1, n_workers=0)).split_none().label_const(0)
    assert {il.train.text(i) for i in range(3)}=={'xxbos xxmaj good'}

# ---- quotes

def test_sms_spam_collection(tmp_path):
    "As published: no line of names, tabs, and quotes that are letters. 5,574 lines are 5,574 rows"
    r = random.Random(1)
    def message(i): return r.choice(['','"'])+f'message {i}'+r.choice(['','"',' " he said'])
    lines = [r.choice(['ham','spam'])+'\t'+message(i) for i in range(5574)]
    path = put(tmp_path/'SMSSpamCollection', '\n'.join(lines)+'\n')
    with pytest.warns(UserWarning) as seen: df = read_table(path)
    assert len(df)==5574 and [f'{a}\t{b}' for a,b in df.to_numpy().tolist()]==lines
    assert df.columns.tolist()==[0,1] and any('looks like a row' in str(o.message) for o in seen)
    assert any('Quotes are taken for letters' in str(o.message) for o in seen)
    pieces = list(table_pieces(path, 1000, warn=False))
    assert sum(map(len, pieces))==5574
    data = TextClasDataBunch.from_csv(tmp_path, path.name, text_cols=1, label_cols=0, bs=64, seed=0, min_freq=1)
    assert data.classes==['ham','spam'] and len(data.train_ds)+len(data.valid_ds)==5574

@pytest.mark.parametrize('delimiter', [',',';','\t','|'])
def test_quotes_that_are_quotes(tmp_path, delimiter):
    df = pd.DataFrame(dict(text=['a'+delimiter+'b','"x" y','two\nlines','fine']*3, label=list('abab')*3))
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        df.to_csv(tmp_path/'t.csv', index=False, sep=delimiter, quoting=quoting)
        assert same(read_table(tmp_path/'t.csv'), df)
        assert list(csv_texts(tmp_path/'t.csv'))==df.text.tolist()

def test_stray_quotes_swallow_nothing(tmp_path):
    for delimiter in ',;\t|':
        lines = [delimiter.join(o) for o in [('text','label')]+[(f'film {i}','ab'[i%2]) for i in range(40)]]
        lines[5] = '"'+lines[5]
        lines[15] = lines[15].replace(delimiter, '"'+delimiter)
        df = read_table(put(tmp_path/'t.csv', '\n'.join(lines)), warn=False)
        assert len(df)==40 and df.text[4]=='"film 4' and table_report(df).quoted is False
        assert len(read_table(tmp_path/'t.csv', quoting=True, warn=False))==30

def test_lone_carriage_return(tmp_path):
    "Also from writers that forget to quote it"
    path = put(tmp_path/'t.csv', 'text,label\ngood\rfilm,pos\nbad film,neg\n')
    assert read_table(path).text.tolist()==['good\rfilm','bad film']
    assert '"good\rfilm"' in csv_text(['text'], [['good\rfilm']])

def test_broken_lines(tmp_path):
    path = put(tmp_path/'t.csv', 'text,label\n"two\nlines",a\ngood,b\nbad, really,b\nshort\nfine,a\n')
    with pytest.raises(ValueError, match='t.csv is broken: at line 5: it has 3 fields where 2 are expected'): read_table(path)
    with pytest.warns(UserWarning, match='2 broken lines were left out, the first of them line 5'):
        df = read_table(path, on_bad_lines='skip')
    assert df.text.tolist()==['two\nlines','good','fine'] and table_report(df).broken==2
    with pytest.raises(ValueError, match='line 6: it has 1 field where 2'):
        read_table(put(path, 'text,label\n"two\nlines",a\ngood,b\nbad,b\nshort\n'))
    assert read_table(path, on_bad_lines='pad').label.isna().tolist()==[False]*3+[True]

# ---- cells stay as they were written

codes = ['01','1.10','00123','1e5','True','None','null','NA','N/A','nan','-0','1_000','+5',' x ','2024-01-01']

def test_cells_stay_as_written(tmp_path):
    df = pd.DataFrame(dict(text=codes, label=codes[::-1]))
    for name in ('t.csv','t.tsv.gz','t.jsonl','t.json'):
        back = read_table(write_table(tmp_path/name, df))
        assert same(back, df) and {type(o) for o in back.to_numpy().ravel()}=={str}

def test_classes_stay_as_written(tmp_path):
    for names in (['01','02'], ['1.1','1.10'], ['1.0','2'], ['None','NA'], ['True','False'], ['0','1'], ['1e2','100']):
        films().assign(label=names*6).to_csv(tmp_path/'t.csv', index=False)
        y = TextClasDataBunch.from_csv(tmp_path, 't.csv', bs=4, seed=0).train_ds.y
        assert (y.kind,y.classes)==('category',sorted(names))
    data = TextClasDataBunch.from_csv(tmp_path, 't.csv', bs=4, seed=0, classes=[100,'1e2'])
    assert data.classes==['100','1e2'] and len(data.train_ds)+len(data.valid_ds)==12

def test_numbers_are_numbers_when_they_are_meant(tmp_path):
    df = films(60).assign(label=[str(i/8) for i in range(60)])
    df.to_csv(tmp_path/'t.csv', index=False)
    with pytest.warns(UserWarning, match='taken for numbers: label_cls=CategoryList'):
        y = TextClasDataBunch.from_csv(tmp_path, 't.csv', bs=4, seed=0).train_ds.y
    assert y.kind=='float' and y.labels.dtype==np.float32
    films().assign(label=['3.5','4.5']*6).to_csv(tmp_path/'t.csv', index=False)
    with pytest.warns(UserWarning, match='taken for 2 classes: label_cls=FloatList'):
        assert TextClasDataBunch.from_csv(tmp_path, 't.csv', bs=4, seed=0).train_ds.y.classes==['3.5','4.5']
    y = TextClasDataBunch.from_csv(tmp_path, 't.csv', bs=4, seed=0, label_cls=FloatList).train_ds.y
    assert y.kind=='float' and set(y.labels.tolist())=={3.5,4.5}

def test_several_label_columns(tmp_path):
    df = films().drop(columns='label').assign(fun=[0,1]*6, sad=[1,0]*6)
    df.to_csv(tmp_path/'t.csv', index=False)
    y = TextClasDataBunch.from_csv(tmp_path, 't.csv', text_cols='text', label_cols=['fun','sad'], bs=4, seed=0).train_ds.y
    assert (y.kind,y.classes)==('multi',['fun','sad']) and (y.labels.sum(1)==1).all()
    df.assign(fun=[i/4 for i in range(12)]).to_csv(tmp_path/'t.csv', index=False)
    y = TextClasDataBunch.from_csv(tmp_path, 't.csv', text_cols='text', label_cols=['fun','sad'], bs=4, seed=0).train_ds.y
    assert y.kind=='float' and y.labels.shape[1]==2

def test_blanks_at_the_ends_of_labels(tmp_path):
    films().assign(label=['neg','pos ','neg ','pos']*3).to_csv(tmp_path/'t.csv', index=False)
    with pytest.warns(UserWarning, match="labels in column 'label' have blanks at their ends"):
        assert TextClasDataBunch.from_csv(tmp_path, 't.csv', bs=4, seed=0).classes==['neg','pos']

def test_empty_cells(tmp_path):
    put(tmp_path/'t.csv', 'label,text\npos,good\nneg,\npos,\n')
    with pytest.raises(ValueError, match="NaN values in text column 'text': 2 of 3 rows, the first at index 1"):
        TextClasDataBunch.from_csv(tmp_path, 't.csv')
    assert read_table(tmp_path/'t.csv', keep_empty=True).text.tolist()==['good','','']

# ---- columns

def test_bytes_and_lists_in_cells(tmp_path):
    pytest.importorskip('pyarrow')
    df = films().assign(text=lambda o: o.text.str.encode('utf-8'))
    df.to_parquet(tmp_path/'b.parquet')
    data = TextClasDataBunch.from_csv(tmp_path, 'b.parquet', bs=4, seed=0)
    assert 'good' in data.train_ds.raw_text(0)+data.train_ds.raw_text(1)+data.train_ds.raw_text(2)
    assert list(parquet_texts(tmp_path/'b.parquet'))==list(csv_texts(tmp_path/'b.parquet'))==films().text.tolist()
    bad = pd.DataFrame(dict(text=[b'ok', b'caf\xe9']), dtype=object)
    with pytest.raises(ValueError, match="in row 1 of column 'text' is not utf-8"): TextList.from_df(bad, cols='text')
    lists = pd.DataFrame(dict(text=[['a','b'],['c']], n=[1,2]))
    lists.to_parquet(tmp_path/'l.parquet')
    for read in (lambda: TextList.from_df(lists, cols='text'), lambda: list(parquet_texts(tmp_path/'l.parquet')),
            lambda: TextList.from_csv(tmp_path, 'l.parquet', cols='text')):
        with pytest.raises(ValueError, match="in row 0 of column 'text' is no text but"): read()
    many = films().assign(label=[['a'],['a','b']]*6)
    assert TextClasDataBunch.from_df('.', many, many, bs=4).train_ds.y.kind=='multi'

def test_names_twice(tmp_path):
    put(tmp_path/'t.csv', 'text,label,text\n'+''.join(f'wrong {i},{"ab"[i%2]},right {i}\n' for i in range(12)))
    put(tmp_path/'test.csv', 'text,text\nwrong,right\n')
    with pytest.raises(ValueError, match="2 columns are called 'text', at the positions 0, 2"):
        TextList.from_csv(tmp_path, 't.csv', cols='text')
    data = TextClasDataBunch.from_csv(tmp_path, 't.csv', test='test.csv', text_cols=2, label_cols='label', bs=4, seed=0)
    assert data.train_ds.raw_text(0).startswith('right') and data.test_ds.raw_text(0)=='right'

def test_test_sets_of_other_shapes(tmp_path):
    films().to_csv(tmp_path/'t.csv', index=False)
    for text in ('text\nNone\n', 'id,text\n7,None\n', 'text,label\nNone,pos\n', 'body\nNone\n'):
        put(tmp_path/'test.csv', text)
        data = TextClasDataBunch.from_csv(tmp_path, 't.csv', test='test.csv', bs=4, seed=0)
        assert data.test_ds.raw_text(0)=='None', text
    films().to_csv(tmp_path/'h.csv', index=False, header=False)
    put(tmp_path/'test.csv', 'pos,only\nneg,two\n')
    data = TextClasDataBunch.from_csv(tmp_path, 'h.csv', test='test.csv', bs=4, seed=0)
    assert [data.test_ds.raw_text(i) for i in range(2)]==['only','two']

def test_names_of_columns_with_blanks(tmp_path):
    put(tmp_path/'t.csv', ' text , label\n'+''.join(f'film {i},{"ab"[i%2]}\n' for i in range(12)))
    data = TextClasDataBunch.from_csv(tmp_path, 't.csv', text_cols='text', label_cols='label', bs=4, seed=0)
    assert data.classes==['a','b']

@pytest.mark.parametrize('texts', ['good', b'good', {'text':'good'}, {'good'}, pd.DataFrame(dict(text=['good'])), 3, np.array('good')])
def test_what_is_no_list_of_texts(texts):
    data = TextClasDataBunch.from_df('.', films(), films(), bs=4)
    for use in (TextList, build_store, data.add_test):
        with pytest.raises(TypeError): use(texts)

def test_what_is_a_list_of_texts():
    data = TextClasDataBunch.from_df('.', films(), films(), bs=4)
    for texts in (['good'], ('good',), pd.Series(['good']), np.array(['good']), (o for o in ['good']), dict(a='good').values()):
        assert data.add_test(texts).test_ds.raw_text(0)=='good'

# ---- folders

def test_folders_alike(tmp_path):
    for name in ('a.txt','b.TXT','.hidden.txt','.ipynb_checkpoints/a-checkpoint.txt','c.md'):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text(name)
    from textnb.command.rows import read_texts
    assert sorted(read_texts(tmp_path))==list(folder_texts(tmp_path))==['a.txt','b.TXT']
    assert sorted(o.name for o in TextList.from_folder(tmp_path).raw)==['a.txt','b.TXT']

def test_one_bad_file_is_named(tmp_path):
    from textnb.command.rows import read_texts
    for i in range(5): (tmp_path/f'{i}.txt').write_text('good film')
    (tmp_path/'3.txt').write_bytes(b'caf\xe9')
    ways = [lambda: read_texts(tmp_path), lambda: list(folder_texts(tmp_path)),
        lambda: TextList.from_folder(tmp_path).split_none().label_const(0)]
    for way in ways:
        with pytest.raises(Exception, match=r'3\.txt is not utf-8 text'): way()

def test_files_beside_the_classes(tmp_path):
    for part in ('train','valid'):
        for name in ('neg','pos'):
            (tmp_path/part/name).mkdir(parents=True)
            for i in range(4): (tmp_path/part/name/f'{i}.txt').write_text(f'good film {i}')
    (tmp_path/'train'/'README.txt').write_text('about')
    with pytest.warns(UserWarning, match='1 of 17 files lie beside the folders of the classes and are left out: train/README.txt'):
        assert TextClasDataBunch.from_folder(tmp_path, bs=4).classes==['neg','pos']
