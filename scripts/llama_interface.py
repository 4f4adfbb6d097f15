"""llama.cpp through its C interface, as the Python package xllamacpp brings it."""
import ctypes

import numpy as np
import xllamacpp
from parity_bench import check


class ContextParams(ctypes.Structure):
    """llama_context_params of the pinned version, with room for what a later one might append. Only the fields up to the
    types of the cache are named by their purpose; Llama.__init__ holds the defaults against those that are known."""
    _fields_ = [(n, ctypes.c_uint32) for n in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max",
                                               "n_outputs_max_per_seq")]
    _fields_ += [(n, ctypes.c_int32) for n in ("n_threads", "n_threads_batch", "ctx_type", "rope_scaling_type",
                                               "pooling_type", "attention_type", "flash_attn_type")]
    _fields_ += [(n, ctypes.c_float) for n in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor",
                                               "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow")]
    _fields_ += [("yarn_orig_ctx", ctypes.c_uint32), ("defrag_thold", ctypes.c_float), ("cb_eval", ctypes.c_void_p),
                 ("cb_eval_user_data", ctypes.c_void_p), ("type_k", ctypes.c_int32), ("type_v", ctypes.c_int32),
                 ("rest", ctypes.c_byte * 256)]


class ModelParams(ctypes.Structure):
    """llama_model_params, of which every field stays as llama.cpp sets it. It is larger than the real one, because a
    function that returns a structure writes to memory of the caller."""
    _fields_ = [("all", ctypes.c_void_p * 64)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)),
                ("embd", ctypes.c_void_p), ("pos", ctypes.POINTER(ctypes.c_int32)),
                ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


def library():
    lib = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    p, i, f = ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool
    for name, result, arguments in [
            ("llama_backend_init", None, []), ("llama_log_set", None, [p, p]),
            ("llama_model_default_params", ModelParams, []), ("llama_context_default_params", ContextParams, []),
            ("llama_model_load_from_file", p, [ctypes.c_char_p, ModelParams]), ("llama_model_free", None, [p]),
            ("llama_init_from_model", p, [p, ContextParams]), ("llama_free", None, [p]),
            ("llama_model_get_vocab", p, [p]), ("llama_vocab_n_tokens", i, [p]),
            ("llama_tokenize", i, [p, ctypes.c_char_p, i, ctypes.POINTER(i), i, f, f]),
            ("llama_detokenize", i, [p, ctypes.POINTER(i), i, ctypes.c_char_p, i, f, f]),
            ("llama_batch_init", Batch, [i, i, i]), ("llama_batch_free", None, [Batch]), ("llama_decode", i, [p, Batch]),
            ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [p])]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class Llama:
    """A model in llama.cpp, computed in fp32 where the weights are."""
    lib = None
    messages = []

    def __init__(self, path):
        if Llama.lib is None:
            Llama.lib = library()
            Llama.collect = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
                lambda level, text, _: Llama.messages.append(text.decode(errors="replace")) if level >= 3 else None)
            Llama.lib.llama_log_set(ctypes.cast(Llama.collect, ctypes.c_void_p), None)
            Llama.lib.llama_backend_init()
        Llama.messages.clear()
        self.model = self.context = None
        params = self.lib.llama_context_default_params()
        known = (params.n_ctx, params.n_batch, params.n_ubatch, params.flash_attn_type, params.yarn_ext_factor,
                 params.type_k, params.type_v)
        check(known == (512, 2048, 512, -1, -1.0, 1, 1),
              f"this xllamacpp has other defaults: {known}; scripts/requirements-hf.txt names the version that is known")
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        check(self.model, f"llama.cpp does not load {path}: {''.join(Llama.messages)}")
        params.n_ctx = params.n_batch = params.n_ubatch = 128
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = params.type_k = params.type_v = 0  # no flash attention; a cache in f32
        self.params = params
        self.vocabulary = self.lib.llama_model_get_vocab(self.model)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lib.llama_model_free(self.model)

    def logits(self, tokens):
        """The logits at every place of one sequence."""
        context = self.lib.llama_init_from_model(self.model, self.params)
        check(context, f"llama.cpp makes no context: {''.join(Llama.messages)}")
        batch = self.lib.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = token, at, 1, 0, 1
        status = self.lib.llama_decode(context, batch)
        check(status == 0, f"llama_decode: {status}: {''.join(Llama.messages)}")
        rows = self.lib.llama_vocab_n_tokens(self.vocabulary)
        out = np.ctypeslib.as_array(self.lib.llama_get_logits(context), (len(tokens), rows)).copy()
        self.lib.llama_batch_free(batch)
        self.lib.llama_free(context)
        return out

    def ids(self, text):
        """The ids of a text, after BOS where the file asks for it. Special tokens have no text."""
        raw = text.encode()
        out = (ctypes.c_int32 * (len(raw) + 8))()
        count = self.lib.llama_tokenize(self.vocabulary, raw, len(raw), out, len(out), True, False)
        check(count >= 0, f"llama_tokenize: {count}")
        return list(out[:count])

    def text(self, ids):
        out = ctypes.create_string_buffer(16 * len(ids) + 64)
        given = (ctypes.c_int32 * len(ids))(*ids)
        count = self.lib.llama_detokenize(self.vocabulary, given, len(ids), out, len(out), False, False)
        check(count >= 0, f"llama_detokenize: {count}")
        return out.raw[:count].decode(errors="replace")
