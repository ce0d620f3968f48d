"""Writing: tokens a second of each architecture at about equal parameter counts, the cost of a token in a long text, and beam search beside fastai v1's figure.

    python bench/bench_generate.py [--peer PYTHON_WITH_FASTAI] [--rounds 1] [--clock cpu]

All models have a vocabulary of 60,000 words and word vectors of 400, about 44 million numbers; they are untrained. `one` writes one text, `many` 16 at once. `at10` and `at1000` are what a token costs after 10 and after
1,000 tokens of text, in small models (their vocabulary is small, too, or the decoder would hide the rest); `flat` is the one divided by the other. `beam` is a search with 100 beams for 20 words, with AWD-LSTM 400/1152/3,
which took fastai v1 2.0 seconds. A peer writes one text with `predict`, which in fastai 2 reads the whole text again for every word."""
from sides import main, seconds, take_turns

VOCAB, EMB, N_WORDS = 60000, 400, 20
PROMPT = ' '.join(f'w{i*7}' for i in range(10))
V1_BEAM_MS = 2000


def words(n):
    "The words of a vocabulary of `n`"
    return [f'w{i}' for i in range(n)]


def archs():
    "Architectures and configurations of about 20 million parameters beside the embedding"
    from textnb.models import AWD_LSTM, Transformer, TransformerXL
    heads = dict(n_layers=10, n_heads=8, d_model=EMB, d_head=50, d_inner=1600)
    return dict(awd_lstm=(AWD_LSTM, {}), awd_qrnn=(AWD_LSTM, dict(qrnn=True, n_hid=2060)), tfmer=(Transformer, heads), tfmerXL=(TransformerXL, {**heads, 'd_inner': 1400}))


def small_archs():
    "The configurations for CPUs"
    from textnb import models as m
    return dict(awd_lstm=(m.AWD_LSTM, m.awd_lstm_small_lm_config), awd_qrnn=(m.AWD_LSTM, m.awd_qrnn_small_lm_config), tfmer=(m.Transformer, m.tfmer_small_lm_config),
        tfmerXL=(m.TransformerXL, m.tfmerXL_small_lm_config))


def learner(arch, config, n_vocab):
    "A language model with `n_vocab` words that are not the tokenizer's marks"
    import pandas as pd
    import torch
    from textnb.all import TextLMDataBunch, Vocab, defaults, language_model_learner
    torch.manual_seed(0)
    df = pd.DataFrame(dict(label=0, text=[PROMPT]*8))
    data = TextLMDataBunch.from_df('.', df, df, vocab=Vocab(defaults.text_spec_tok+words(n_vocab-len(defaults.text_spec_tok))), text_cols='text', label_cols='label', bs=2, bptt=4)
    return language_model_learner(data, arch, config=config, pretrained=False, silent=True)


def token_ms(learn, n_prompt, n=64):
    "Milliseconds of a token after `n_prompt` tokens, without the reading of the prompt"
    from itertools import cycle, islice
    from textnb.write import write_ids
    text = ' '.join(islice(cycle(words(900)), n_prompt))
    def started():
        it = write_ids(learn, [text], n+1, seed=0)
        next(it)
        return it
    its = [started() for _ in range(4)]
    return 1000*seconds(lambda: list(its.pop()), 3)/n


def side_textnb():
    "Figures of this package"
    res = {}
    for name, (arch, config) in archs().items():
        learn = learner(arch, config, VOCAB)
        res[f'{name}_params_m'] = sum(p.numel() for p in learn.model.parameters())/1e6
        res[f'{name}_one_tokens_s'] = N_WORDS/seconds(lambda: learn.predict(PROMPT, N_WORDS, seed=0))
        res[f'{name}_many_tokens_s'] = 16*N_WORDS/seconds(lambda: learn.predict([PROMPT]*16, N_WORDS, seed=range(16)), 1)
        if name=='awd_lstm': res['beam_ms'] = 1000*seconds(lambda: learn.beam_search(PROMPT, N_WORDS, beam_sz=100))
    for name, (arch, config) in small_archs().items():
        learn = learner(arch, config, 1000)
        for n in (10, 1000): res[f'{name}_at{n}_ms'] = token_ms(learn, n)
    return res


def side_fastai():
    "Figures of fastai"
    import pandas as pd
    from fastai.text.all import AWD_LSTM, TextDataLoaders, language_model_learner
    df = pd.DataFrame(dict(text=[PROMPT]*64))
    dls = TextDataLoaders.from_df(df, text_col='text', is_lm=True, valid_pct=.5, text_vocab=['xxunk', 'xxpad', 'xxbos']+words(VOCAB-3), seq_len=4, bs=2)
    learn = language_model_learner(dls, AWD_LSTM, pretrained=False)
    def write():
        with learn.no_bar(), learn.no_logging(): learn.predict(PROMPT, N_WORDS, no_bar=True)
    return {'awd_lstm_one_tokens_s': N_WORDS/seconds(write, 1)}


SIDES = dict(textnb=side_textnb, fastai=side_fastai)


def run(peer=None, rounds=1)->dict:
    "Figures of all sides, the flatness of each architecture, and ratios (above 1 is better) to fastai v1's figure and to `peer`, an interpreter that has fastai 2.8.12"
    res = take_turns(__file__, ['textnb'], peer, rounds)
    own = res['textnb']
    flat = {name: own[f'{name}_at10_ms']/own[f'{name}_at1000_ms'] for name in ('awd_lstm', 'awd_qrnn', 'tfmer', 'tfmerXL')}
    flat['worst'] = min(flat.values())
    return {**res, 'fastai_v1': dict(beam_ms=V1_BEAM_MS), 'flat': flat, 'ratio': {**res.get('ratio', {}), 'beam_ms': V1_BEAM_MS/own['beam_ms']}}


if __name__ == '__main__': main(__doc__, run, SIDES)
