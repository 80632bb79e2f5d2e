"""The text encoders built tiny, and tokenizers that know the real ones' own words. Every part of the real class."""

import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

LLAMA_WORDS = ("<pad>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>")
CLIP_WORDS = ("<|startoftext|>", "<|endoftext|>")
VOCABULARY = 800  # tokens; enough for the template's words to be one token each, as the real one's


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes joined to words, with Llama-3's own words, LLaVA's <image> and a beginning."""
    tokenizer = _trained(LLAMA_WORDS)
    begin = LLAMA_WORDS[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token=begin)


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes joined to words between CLIP's beginning and end; padded with its end, as CLIP-L's."""
    tokenizer = _trained(CLIP_WORDS)
    begin, end = CLIP_WORDS
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(word, tokenizer.token_to_id(word)) for word in CLIP_WORDS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=end, bos_token=begin, eos_token=end, model_max_length=77
    )


def _trained(words: tuple[str, ...]) -> Tokenizer:
    """Byte-pair tokens learnt from the template; `words` are whole ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(words),
        show_progress=False,
    )
    tokenizer.train_from_iterator([DEFAULT_PROMPT_TEMPLATE["template"] + " The person looks like"], trainer)
    return tokenizer


def llava(tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, layers: int = 4) -> LlavaForConditionalGeneration:
    """LLaVA, 32 wide; 336 pixels and 576 rows for the portrait, as the real one."""
    torch.manual_seed(seed)
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                image_size=336,
                patch_size=14,
            ),
            text_config=LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=layers,
                num_attention_heads=4,
                num_key_value_heads=2,
            ),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()


def clip(tokenizer: PreTrainedTokenizerFast, *, seed: int = 0) -> CLIPTextModel:
    """CLIP's text model, 24 wide."""
    torch.manual_seed(seed)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()
