"Weights that come with the package or from its users: what fits, what is said, and what becomes of files that are damaged or forged"
import copy
import json
import shutil
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

import textnb.learn.pretrained as home
from textnb.all import *
from textnb.base import ArchiveError, load_archive, load_meta, save_archive
from textnb.learn import add_pretrained, encoder_of, find_pretrained, list_pretrained, pretrained_files, pretrained_info, save_pretrained
from textnb.toys import film_reviews

TINY = dict(emb_sz=12, n_hid=16, n_layers=2)
SMALL = dict(emb_sz=192, n_hid=512, n_layers=2)

def bunch(texts, **kw):
    "Data of `texts`, each twice, with two labels in turn"
    df = pd.DataFrame(dict(text=list(texts)*2, label=['a','b']*len(texts)))
    return TextClasDataBunch.from_df('.', df, df[:2], text_cols='text', label_cols='label', bs=4, **{'min_freq':1, **kw})

def classifier(data, **kw): return text_classifier_learner(data, AWD_LSTM, silent=True, **kw)

def told(f):
    "What `f()` returns, and the warnings on the way"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        res = f()
    return res,[str(o.message) for o in seen]

@pytest.fixture(scope='module')
def english(): return bunch(['The film was good, and the actors were lovely.', 'The film was bad, and the plot was dull.'])

@pytest.fixture(scope='module')
def german():
    return bunch(['Der Film war gut, und die Schauspieler haben sehr schön gespielt.', 'Leider ist das Ende etwas zu lang geraten, finde ich.'])

@pytest.fixture
def folder(tmp_path, monkeypatch):
    "A folder that is searched before that of the package, for one test"
    monkeypatch.setattr(home, '_folders', list(home._folders))
    add_pretrained(tmp_path)
    return tmp_path

@pytest.fixture(scope='module')
def tiny():
    "A language model of few numbers"
    data = TextLMDataBunch.from_df('.', pd.DataFrame(dict(text=film_reviews().text[:60])), pd.DataFrame(dict(text=film_reviews().text[60:])), text_cols='text', bs=4)
    return language_model_learner(data, AWD_LSTM, config=TINY, pretrained=False, silent=True)

def shipped(way='forward'): return home._folders[-1]/f'english_small_{way}.tnb'

# what comes with the package

def test_both_directions_are_found_by_one_word(english):
    learn = classifier(english, config='small')
    assert learn.load_report.source=='english_small_forward.tnb' and learn.load_report.ok
    back = classifier(bunch(['a good film', 'a bad film'], backwards=True), config='small')
    assert back.load_report.source=='english_small_backward.tnb'
    df = list_pretrained().tail(2)
    assert list(df.config)==['192/512/2']*2 and list(df.reads)==['backwards','forwards'] and list(df.words)==[30000]*2
    assert df.MB.sum()<=24

def test_the_cards_say_what_a_user_takes_over():
    for way in ('forward','backward'):
        card = pretrained_info(shipped(way)).card
        for k in ('data','licence','licences','recipe','perplexity','bias'): assert len(card[k])>5, k
        for o in ('CC BY-SA 3.0', 'Wikipedia', 'reviews'): assert o in card['data']+card['licences']

def test_rows_are_those_of_the_file(english):
    "A known word has its row, a new one the mean of all, and the layers are the file's"
    a = load_archive(shipped())
    rows = a.tensors['0.encoder.weight'].float()*a.tensors['0.encoder.weight/scale']
    enc = encoder_of(classifier(bunch(['the zorblaxian film']), config='small').model)
    data = bunch(['the zorblaxian film'])
    at = data.vocab.stoi
    own = enc.encoder.weight.data
    assert torch.equal(own[at['film']], rows[a.meta['vocab'].index('film')])
    assert torch.allclose(own[at['zorblaxian']], rows.mean(0), atol=1e-6)
    assert torch.allclose(enc.rnns[0].weight_hh_l0_raw.data, a.tensors['0.rnns.0.weight_hh_l0_raw'].float()*a.tensors['0.rnns.0.weight_hh_l0_raw/scale'])

def test_report_counts_words_and_running_text(english):
    "Tokens known, new and unknown are shares of the texts, and counts of the vocabulary"
    data = bunch(['film film film zorblaxian', 'film quuxling quuxling film'], min_freq=3)
    assert 'quuxling' in data.vocab.stoi and 'zorblaxian' not in data.vocab.stoi
    words = told(lambda: classifier(data, config='small'))[0].load_report.words
    assert (words.vocab, words.vocab_known)==(2, 1)
    assert (words.known, words.new, words.unknown)==(5/8, 2/8, 1/8)
    assert '1 of the vocabulary known, 1 new; of the texts 62.5% known, 25.0% new, 12.5% xxunk' in repr(classifier(data, config='small').load_report)

# words that the weights do not know

def test_english_is_no_reason_to_warn(english):
    assert not told(lambda: classifier(english, config='small'))[1]

def test_another_language_is_said_with_its_share(german):
    learn, seen = told(lambda: classifier(german, config='small'))
    assert len(seen)==1
    assert 'english_small_forward.tnb does not know many of the words' in seen[0] and 'same language' in seen[0]
    assert f'{learn.load_report.words.new:.1%} new' in seen[0] and "'" in seen[0]
    assert .25<learn.load_report.words.new<.9

def test_a_vocabulary_with_nothing_in_common_gets_the_layers_only():
    data = bunch(['zorblax quuxling frobnitz', 'quuxling zorblax wibblet'])
    learn, seen = told(lambda: classifier(data, config='small'))
    assert len(seen)==1 and 'only the layers are left' in seen[0] and '0.0% known, 100.0% new' in seen[0]
    own = encoder_of(learn.model).encoder.weight.data
    new = [data.vocab.stoi[o] for o in ('zorblax','quuxling','frobnitz','wibblet')]
    assert torch.equal(own[new[0]].expand(4, -1), own[new])
    learn.unfreeze()
    learn.fit(1, 1e-3) # and it can be trained

def test_a_vocabulary_that_holds_all_words_of_the_weights_does_not_hide_the_language(german):
    "What is counted is the running text, not the vocabulary"
    words = list(german.vocab.itos)+[o for o in pretrained_info(shipped()) and load_meta(shipped())['vocab'] if o not in german.vocab.stoi]
    data = bunch([german.train_ds.x[i].raw for i in range(2)], vocab=Vocab(words))
    seen = told(lambda: classifier(data, config='small'))[1]
    assert any('does not know many of the words' in o for o in seen)

# weights that do not fit

@pytest.mark.parametrize('arch, config, here', [
    (AWD_LSTM, None, 'AWD_LSTM (emb_sz=400, n_hid=1152, n_layers=3)'), (AWD_LSTM, dict(SMALL, n_hid=500), 'n_hid=500'),
    (AWD_LSTM, dict(SMALL, qrnn=True), 'nothing was loaded'), (Transformer, None, 'this model is Transformer'), (TransformerXL, None, 'TransformerXL')])
def test_weights_of_other_sizes_are_named_with_the_cure(english, arch, config, here):
    with pytest.raises(ValueError, match='nothing was loaded') as e:
        text_classifier_learner(english, arch, config=config, pretrained_fnames=shipped(), silent=True)
    assert here in str(e.value)
    if not (config or {}).get('qrnn'): assert 'AWD_LSTM (emb_sz=192, n_hid=512, n_layers=2)' in str(e.value)

def test_forward_weights_for_backward_data_are_said():
    data = bunch(['a good film', 'a bad film'], backwards=True)
    seen = told(lambda: classifier(data, config='small', pretrained_fnames=shipped()))[1]
    assert any("read its texts forwards, this learner's data run backwards" in o for o in seen)

def test_only_weights_of_the_direction_are_taken(folder, tiny, english):
    "With forward weights alone a backward learner starts from random ones, and says so"
    tiny.save_pretrained(folder/'tiny.tnb')
    config = TINY
    assert told(lambda: classifier(english, config=config))[0].load_report.source=='tiny.tnb'
    learn, seen = told(lambda: classifier(bunch(['a good film', 'a bad film'], backwards=True), config=config))
    assert learn.load_report is None
    assert any('reading backwards' in o and 'random weights' in o and 'english_small_forward' in o for o in seen)

@pytest.mark.parametrize('arch, config', [('Transformer', dict(n_layers=2, n_heads=2, d_model=16, d_head=8, d_inner=32, ctx_len=64)),
    ('TransformerXL', dict(n_layers=2, n_heads=2, d_model=16, d_head=8, d_inner=32, mem_len=16)), ('AWD_LSTM', dict(emb_sz=16, n_hid=20, n_layers=2, qrnn=True))])
def test_every_architecture_can_be_packed_and_found(folder, tiny, arch, config):
    learn = language_model_learner(tiny.data, arch, config=config, pretrained=False, silent=True)
    learn.save_pretrained(folder/'mine.tnb', card=dict(licence='mine'))
    again = language_model_learner(tiny.data, arch, config=config, silent=True)
    assert again.load_report.source=='mine.tnb' and again.load_report.ok
    for (k,a),b in zip(learn.model.state_dict().items(), again.model.state_dict().values()): assert (a-b).abs().max()<.02*a.abs().max()+1e-3, k

def test_full_size_without_a_network_says_what_is_there(english, tmp_path, monkeypatch):
    "The published weights cannot be had: what is on this machine is named, and how to start without"
    monkeypatch.setenv('HTTPS_PROXY', 'http://127.0.0.1:9')
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    for k in ('NO_PROXY', 'no_proxy'): monkeypatch.delenv(k, raising=False)
    monkeypatch.setattr(Config, 'model_path', classmethod(lambda cls: tmp_path))
    with pytest.raises((OSError, ValueError)) as e: classifier(english)
    for o in ('cannot be had', 'english_small_forward', "config='small'", 'list_pretrained', 'pretrained=False'): assert o in str(e.value), o

# files that are damaged or forged

def forge(path, to, tensors=None, **meta):
    "The file at `path` with other tensors (a function of the old) and entries, and the right sums"
    a = load_archive(path)
    save_archive(to, tensors(dict(a.tensors)) if tensors else a.tensors, {**a.meta, **meta})

def broken(path, at=.5):
    "A byte in the middle of the file changed"
    b = bytearray(path.read_bytes())
    b[int(len(b)*at)] ^= 255
    path.write_bytes(bytes(b))

def test_other_archives_are_passed_over_without_a_word(folder, tiny):
    tiny.export(folder/'export.tnb')
    save_archive(folder/'other.tnb', {}, {'kind':'something'})
    names, seen = told(lambda: [o.name for o in pretrained_files()])
    assert names==['english_small_backward','english_small_forward'] and not seen
    with pytest.raises(ArchiveError, match="kind 'something'"): pretrained_info(folder/'other.tnb')

@pytest.mark.parametrize('data', [b'', b'PK\x03\x04', b'GIF89a', 'half'])
def test_a_damaged_file_is_passed_over_with_a_word(folder, tiny, english, data):
    tiny.save_pretrained(folder/'tiny.tnb')
    whole = (folder/'tiny.tnb').read_bytes()
    (folder/'bad.tnb').write_bytes(whole[:len(whole)//2] if data=='half' else data)
    names, seen = told(lambda: [o.name for o in pretrained_files()])
    assert names==['tiny','english_small_backward','english_small_forward']
    assert len(seen)==1 and 'passed over' in seen[0] and str(folder/'bad.tnb') in seen[0]
    with pytest.raises(ArchiveError, match='bad.tnb'): pretrained_info(folder/'bad.tnb')
    with pytest.raises(ArchiveError, match='bad.tnb'): classifier(english, config=TINY, pretrained_fnames=folder/'bad.tnb')

@pytest.mark.parametrize('wrong, said', [
    (dict(vocab='abc'), 'vocab must be a list of texts'), (dict(vocab=[1]), r'vocab must be a list of texts'), (dict(vocab=None), 'vocab'), (dict(arch=3), 'arch must be a text'),
    (dict(config=[]), 'config must be an object'), (dict(config=dict(n_hid='a b')), 'config.n_hid must be a size'), (dict(config=dict(n_hid=2**60)), 'config.n_hid must be a size'),
    (dict(config=dict(n_hid=[[]])), 'config.n_hid'), (dict(backwards='x'), 'backwards must be true or false'), (dict(card='x'), 'card must be an object')])
def test_a_forged_description_is_refused_by_entry(folder, tiny, wrong, said):
    tiny.save_pretrained(folder/'tiny.tnb')
    forge(folder/'tiny.tnb', folder/'tiny.tnb', **wrong)
    with pytest.raises(ArchiveError, match=said) as e: pretrained_info(folder/'tiny.tnb')
    assert 'tiny.tnb' in str(e.value)
    names, seen = told(lambda: [o.name for o in pretrained_files()])
    assert 'tiny' not in names and len(seen)==1

EMB = '0.encoder.weight'
def without(name): return lambda t: {k:v for k,v in t.items() if k!=name}
def changed(name, f): return lambda t: {**t, name:f(t[name])}

@pytest.mark.parametrize('tensors, said', [
    (without(EMB+'/scale'), 'scales are missing'), (changed(EMB+'/scale', lambda s: s.T.contiguous()), 'one scale for each row'),
    (changed(EMB+'/scale', lambda s: torch.ones(1, 5000)), 'one scale for each row'), (changed(EMB+'/scale', lambda s: s*float('nan')), 'NaN or infinity'),
    (changed('1.decoder.bias', lambda b: b*float('inf')), 'NaN or infinity'), (changed(EMB, lambda w: w[:-1]), 'one scale for each row'), (without(EMB), 'holds no text encoder'),
    (lambda t: {**t, EMB:t[EMB][:-1], EMB+'/scale':t[EMB+'/scale'][:-1]}, 'do not belong together|there are')])
def test_forged_weights_are_refused_and_nothing_is_loaded(folder, tiny, english, tensors, said):
    tiny.save_pretrained(folder/'tiny.tnb')
    forge(folder/'tiny.tnb', folder/'tiny.tnb', tensors)
    learn = classifier(english, config=TINY, pretrained=False)
    before = copy.deepcopy(learn.model.state_dict())
    with pytest.raises(ValueError, match=said) as e: learn.load_pretrained(folder/'tiny.tnb')
    assert 'tiny.tnb' in str(e.value)
    for k,v in learn.model.state_dict().items(): assert torch.equal(v, before[k])

def test_a_description_is_read_without_the_weights(folder, tiny, english):
    "So a damaged weight does not show in the list, and is refused when it is to be loaded"
    tiny.save_pretrained(folder/'tiny.tnb', card=dict(licence='mine'))
    with zipfile.ZipFile(folder/'tiny.tnb') as z: at = z.getinfo('weights.safetensors').header_offset
    b = bytearray((folder/'tiny.tnb').read_bytes())
    b[at+2000] ^= 255
    (folder/'tiny.tnb').write_bytes(bytes(b))
    assert 'tiny' in list(list_pretrained().name)
    with pytest.raises(ArchiveError, match='tiny.tnb.*(damaged|changed)'): classifier(english, config=TINY)

@pytest.mark.parametrize('how', ['cut', 'gone', 'weights'])
def test_the_package_with_a_damaged_file_does_not_start_from_random_weights(english, tmp_path, monkeypatch, how):
    "Whoever asks for the weights of the package and cannot have them is told to install it anew"
    for way in ('forward','backward'): shutil.copy(shipped(way), tmp_path)
    own = tmp_path/'english_small_forward.tnb'
    monkeypatch.setattr(home, '_folders', [tmp_path])
    if how=='cut': own.write_bytes(own.read_bytes()[:10**6])
    elif how=='gone': own.unlink()
    else: broken(own)
    with pytest.raises((FileNotFoundError, ArchiveError)) as e: told(lambda: classifier(english, config='small'))
    if how=='weights': assert 'english_small_forward.tnb' in str(e.value)
    else: assert 'install it anew' in str(e.value) and 'english_small_backward' in str(e.value) and 'pretrained=False' in str(e.value)
    assert classifier(english, config='small', pretrained=False).load_report is None

def test_a_folder_is_named_once_and_by_its_full_path(tmp_path, monkeypatch):
    monkeypatch.setattr(home, '_folders', list(home._folders))
    monkeypatch.chdir(tmp_path)
    n = len(home._folders)
    (tmp_path/'own').mkdir()
    add_pretrained('own')
    add_pretrained(tmp_path/'own')
    assert len(home._folders)==n+1 and home._folders[0].is_absolute()
    with pytest.raises(FileNotFoundError, match='none is no folder'): add_pretrained('none')

def test_words_with_odd_characters_travel(folder, tiny):
    "A vocabulary may hold anything that a text may"
    words = [f'w{i}' for i in range(len(tiny.data.vocab))]
    words[9:13] = ['\u2028', '"', '\x00', '😀']
    save_pretrained(folder/'odd.tnb', tiny.model.state_dict(), words, 'AWD_LSTM', TINY)
    assert load_meta(folder/'odd.tnb')['vocab']==words
    assert find_pretrained('AWD_LSTM', TINY).name=='odd'
    assert json.loads(json.dumps(words))==words and np.isfinite(pretrained_info(folder/'odd.tnb').words)
