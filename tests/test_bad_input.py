"Bad input, line by line: which test answers for each kind of it, and what no other file tries, as a user would meet it"
import gzip
import math
import os
import re
import signal
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch

from textnb.all import *

lines = {
    'empty or blank text': 'data::test_empty_and_blank_texts corpus::test_nothing_and_blanks learner::test_odd_texts bad_input::test_blank_texts_are_trained_on',
    'NaN text or label': 'data::test_nan_text_and_label transform::test_missing_text corpus::test_a_missing_text_is_named learner::test_no_text',
    'one class only': 'data::test_one_class_only',
    'an unseen label in validation': 'data::test_unseen_label_in_validation bad_input::test_text_and_label_mixed_up',
    'a column that is not there': 'data::test_column_that_is_not_there cli::test_missing_column bad_input::test_no_column bad_input::test_names_of_columns_stay_short',
    'a text of 1 MB': 'transform::test_a_text_of_one_megabyte learner::test_megabyte',
    'NUL and control characters': 'transform::test_odd_texts corpus::test_odd_characters bad_input::test_odd_characters_all_the_way',
    'lone surrogates': 'transform::test_odd_texts_can_be_stored learner::test_odd_texts bad_input::test_odd_characters_all_the_way',
    'a CSV with a broken line': 'data::test_csv_with_a_broken_line corpus::test_csv bad_input::test_csv_of_another_kind',
    'a folder with unreadable files': 'data::test_unreadable_files bad_input::test_a_pipe_in_the_folder bad_input::test_a_folder_that_cannot_be_listed',
    'a vocab that does not fit the weights': 'train::test_a_vocab_that_does_not_fit learner::test_wrong_weights learner::test_encoder_other_vocab',
    'a truncated or tampered archive': 'core::test_every_truncation_is_noticed core::test_every_changed_byte_is_noticed_or_harmless train::test_truncated_and_foreign_files learner::test_damaged_archive bad_input::test_damaged_data',
    'a full disk while saving': 'core::test_full_disk_while_saving_an_archive train::test_full_disk_while_saving callbacks::test_full_disk_at_a_checkpoint corpus::test_a_full_disk_loses_nothing bad_input::test_full_disk',
    'Ctrl-C in training': 'train::test_ctrl_c train::test_lr_find_interrupted callbacks::test_best_model_is_loaded_at_the_end_and_after_ctrl_c bad_input::test_ctrl_c_at_any_moment',
}

@pytest.mark.parametrize('line', lines)
def test_every_line_has_its_tests(line):
    "The tests named above are there"
    for o in lines[line].split():
        area,name = o.split('::')
        assert re.search(rf'^def {name}\(', (Path(__file__).parent/f'test_{area}.py').read_text(encoding='utf-8'), re.M), o

config = dict(emb_sz=12, n_hid=16, n_layers=2)

def frame(n=40):
    "`n` short reviews with an opinion each"
    return pd.DataFrame(dict(label=['neg','pos']*(n//2), text=[f'the {w} film' for w in ('bad','good','dull','fine','poor','great','weak','lovely')*(n//8)]))

def classifier(path, df=None, **kw):
    "A small classifier of `df`"
    return text_classifier_learner(TextClasDataBunch.from_df(path, frame() if df is None else df, frame(16), bs=8, **kw), AWD_LSTM, config=config, pretrained=False, silent=True)

def language_model(path, df=None, **kw):
    "A small language model of `df`"
    data = TextLMDataBunch.from_df(path, frame() if df is None else df, frame(16), bs=4, bptt=5, text_cols='text', **kw)
    return language_model_learner(data, AWD_LSTM, config=config, pretrained=False, silent=True)

def finite(learn): return all(torch.isfinite(p).all() for p in learn.model.parameters())

# texts

def with_texts(*texts):
    "The reviews, the first of them replaced by `texts`"
    df = frame().astype(object)
    df.loc[range(len(texts)),'text'] = list(texts)
    return df

@pytest.mark.filterwarnings('ignore:.*empty')
@pytest.mark.parametrize('make', [classifier,language_model])
def test_blank_texts_are_trained_on(make, tmp_path):
    "Empty or blank text: training goes through a batch of nothing else and stays finite"
    learn = make(tmp_path, with_texts(*['',' ','\n\t','\xa0']*2))
    learn.fit(1)
    assert finite(learn) and math.isfinite(learn.validate()[0])

odd = ['a\0b film', '\x07\x1b[0m\x7f', 'half \ud83d of it', '\ud800', '\x00', '\u202e\ufeff']

@pytest.mark.filterwarnings('ignore:.*empty')
def test_odd_characters_all_the_way(tmp_path):
    "NUL and control characters, lone surrogates: trained on, saved, exported and predicted, in texts and in labels"
    df = with_texts(*odd)
    df.loc[[6,7],'label'] = ['p\0s','p\ud800s']
    learn = classifier(tmp_path, df, min_freq=1)
    learn.fit(1)
    assert finite(learn) and set(learn.data.classes)=={'neg','pos','p\0s','p\ud800s'}
    again = load_learner(learn.export(tmp_path/'e.tnb'))
    assert again.data.classes==learn.data.classes and again.data.vocab==learn.data.vocab
    for t in odd: assert torch.allclose(again.predict(t)[2], learn.predict(t)[2])
    learn.data.save('d')
    back = load_data(tmp_path, 'd')
    assert [back.train_ds.raw_text(i) for i in range(len(odd))]==odd
    lm = language_model(tmp_path, df, min_freq=1)
    lm.fit(1)
    assert all(lm.predict(t, 2).startswith(t) for t in odd)

# tables and files

def test_text_and_label_mixed_up():
    "An unseen label in validation: if it is all of them, the columns are probably not what they seem"
    with pytest.raises(ValueError, match="text column 1 is 'label' in the training table and 'text' in the validation"):
        TextClasDataBunch.from_df('.', frame()[['text','label']], frame(16))
    with pytest.warns(UserWarning, match='16 of 16 items are left out.*is it the right label column'):
        TextClasDataBunch.from_df('.', frame(), frame(16).assign(label='x'))

def test_no_column():
    "A column that is not there: an empty list of columns is no text and no label"
    for cls in (TextClasDataBunch,TextLMDataBunch):
        with pytest.raises(ValueError, match='no text column is given'): cls.from_df('.', frame(), frame(16), text_cols=[])
    with pytest.raises(ValueError, match='no label column is given'): TextClasDataBunch.from_df('.', frame(), frame(16), text_cols='text', label_cols=[])

def test_names_of_columns_stay_short(tmp_path):
    "A column that is not there: the message lists names, not a whole file"
    (tmp_path/'t.csv').write_bytes(b'x'*5000+b'\n')
    with pytest.raises(ValueError, match='there is no text column 1; the columns are') as e: TextClasDataBunch.from_csv(tmp_path, 't.csv')
    assert len(str(e.value))<200

def test_csv_of_another_kind(tmp_path):
    "A CSV with a broken line, or with another delimiter or encoding, or cut short: the cure fits the case"
    f = tmp_path/'t.csv'
    f.write_text('label;text\n1;good\n')
    assert TextList.from_csv(tmp_path, 't.csv', cols='text').raw.tolist()==['good']
    with pytest.raises(ValueError, match="Is ';' the delimiter"): TextList.from_csv(tmp_path, 't.csv', cols='text', delimiter=',')
    f.write_bytes('label,text\n1,good\n'.encode('utf-16'))
    assert TextList.from_csv(tmp_path, 't.csv', cols='text').raw.tolist()==['good']
    with pytest.raises(ValueError, match="encoding='utf-16'"): TextLMDataBunch.from_csv(tmp_path, 't.csv', encoding='utf-8')
    (tmp_path/'t.csv.gz').write_bytes(gzip.compress(os.urandom(500).hex().encode())[:-99])
    with pytest.raises(OSError, match=r'cannot read .*t\.csv\.gz'): TextLMDataBunch.from_csv(tmp_path, 't.csv.gz')
    f.write_text('label,text\n1,good\n0\n')
    with pytest.raises(ValueError, match='at line 3: it has 1 field where 2 are expected'): TextList.from_csv(tmp_path, 't.csv', cols='text')
    f.write_text('label,text\n1,good\n0,\n')
    with pytest.raises(ValueError, match=r'1 of 2 rows, the first at index 1\.'): TextList.from_csv(tmp_path, 't.csv', cols='text')
    (tmp_path/'d').mkdir()
    with pytest.raises(IsADirectoryError, match='use `from_folder`'): TextClasDataBunch.from_csv(tmp_path, 'd')

def folder(path):
    "Reviews as files in folders"
    for s in ('train','valid'):
        for i,(l,t) in enumerate(frame(16).itertuples(index=False)):
            (path/s/l).mkdir(parents=True, exist_ok=True)
            (path/s/l/f'{i}.txt').write_text(t)
    return path

@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes')
def test_a_pipe_in_the_folder(tmp_path):
    "A folder with unreadable files: a pipe is named, not waited for"
    os.mkfifo(folder(tmp_path)/'train'/'pos'/'99.txt')
    for cls in (TextClasDataBunch,TextLMDataBunch):
        with pytest.raises(OSError, match=r'99\.txt \(it is a pipe'): cls.from_folder(tmp_path)
    with pytest.warns(UserWarning, match=r'1 of 33 texts cannot be read.*99\.txt'): assert len(TextList.from_folder(tmp_path).filter_readable())==32

def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    "A folder with unreadable files: a sub-folder that may not be looked into is an error, and not skipped in silence"
    scandir,shut = os.scandir,str(folder(tmp_path)/'train'/'neg')
    def guarded(p):
        if str(p)==shut: raise PermissionError(13, 'Permission denied', shut)
        return scandir(p)
    monkeypatch.setattr(os, 'scandir', guarded)
    with pytest.raises(PermissionError, match=r'cannot look into the folder .*neg \(Permission denied'): TextClasDataBunch.from_folder(tmp_path)

def test_damaged_data(tmp_path):
    "A truncated or tampered archive: saved data, too"
    classifier(tmp_path).data.save('d')
    whole = (tmp_path/'d').read_bytes()
    for b in (whole[:len(whole)//2], whole[:200]+bytes([whole[200]^1])+whole[201:], b'', b'{}'):
        (tmp_path/'d').write_bytes(b)
        with pytest.raises(ArchiveError, match='/d'): load_data(tmp_path, 'd')

# disks and keys

@contextmanager
def no_room():
    "Room for 400 bytes a file, within the block alone: pytest's own output may go to a file as well"
    resource = pytest.importorskip('resource')
    old,handler = resource.getrlimit(resource.RLIMIT_FSIZE),signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400,old[1]))
    try: yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)

savers = dict(save=lambda c,m: c.save('c'), export=lambda c,m: c.export('e.tnb'), encoder=lambda c,m: m.save_encoder('enc'), data=lambda c,m: m.data.save('d'),
    vocab=lambda c,m: c.data.vocab.save(c.path/'v.json'), best=lambda c,m: c.fit(1, callbacks=[SaveModelCallback()]), checkpoint=lambda c,m: c.fit(1, callbacks=[CheckpointCallback(every=2)]))

def test_full_disk(tmp_path):
    "A full disk while saving: whatever is saved, the error names the file, the old one is whole, no litter stays, and training goes on"
    df = frame()
    c,m = classifier(tmp_path, df.assign(text=[f'{t} number{i}' for i,t in enumerate(df.text)]), min_freq=1),language_model(tmp_path)
    for f in savers.values(): f(c, m)
    def files(): return {o:o.read_bytes() for o in tmp_path.rglob('*') if o.is_file()}
    before = files()
    assert len(before)==len(savers)
    for name,f in savers.items():
        with no_room(), pytest.raises(OSError, match='what was there before is untouched') as e: f(c, m)
        assert str(tmp_path) in str(e.value) and files()==before, name
    with no_room(): c.fit(1)
    assert finite(c) and c.predict('the good film')[0].obj in ('neg','pos')

class Press(Callback):
    "Ctrl-C at the event `at`"
    def __init__(self, at): setattr(self, at, lambda: signal.raise_signal(signal.SIGINT))

@pytest.mark.parametrize('at', 'before_batch after_pred after_backward after_step before_validate after_epoch'.split())
@pytest.mark.parametrize('make', [classifier,language_model])
def test_ctrl_c_at_any_moment(make, at, tmp_path):
    "Ctrl-C in training: wherever it comes, the learner trains, validates, predicts and saves afterwards"
    learn = make(tmp_path).to_bf16()
    n = len(learn.callbacks)
    with pytest.raises(KeyboardInterrupt): learn.fit_one_cycle(2, 1e-3, callbacks=[Press(at)])
    assert len(learn.callbacks)==n and all(p.grad is None for p in learn.model.parameters())
    learn.fit(1, 1e-3)
    assert finite(learn) and math.isfinite(learn.validate()[0]) and len(learn.recorder.rows)==1
    learn.save('m')
    assert learn.predict('the good film') and learn.file_for('m').exists()
