"""Published cases, and figures of rebuilt ones, that are not rebuilt, each with its reason."""

COMPILED = (
    "compiled: what inductor fused is never allocated, and the simulation runs the code as written"
)
QUANTIZED = "weights in 4 bits of NormalFloat, by kernels of another package"
DATA = "the lengths of the samples decide, and are not stated"
MEGATRON = (
    "the figure is that of Megatron-LM's gradient buffers, schedule and fused kernels, and of the"
    " FusedAdam of Apex or Transformer Engine"
)
ENGINE = "layers and attention of Transformer Engine, whose workspaces are its own"
READING = "how it was read is not stated"

LEFT_OUT = {
    "B02": MEGATRON,
    "B03": MEGATRON,
    "B04": MEGATRON,
    "B05": MEGATRON,
    "B06": MEGATRON,
    "B08": ENGINE,
    "B10": ENGINE,
    "B27": DATA + "; evaluation generates with batches of 50 in the same process",
    "B29": "convolutions whose workspaces cuDNN chooses, and mmdetection's own losses",
    "B30": "sizes of images vary, and proposals depend on values",
    "B32": COMPILED,
    "B35": READING
    + "; of July 2017, with storages shared by hand, which the repository has no more",
    "B37": READING + ", and the model is code of its own with DeepSpeed's buffers",
    "B38": READING + "; Megatron-DeepSpeed's ZeRO-1 buffers and fused kernels of V100",
    "B40": "the model's size is not in the text, and DeepSpeed's ZeRO-3 has buffers of its own",
}
LEFT_OUT_FIGURES = {
    ("B21", "baseline"): DATA,
    ("B21", "+ compile"): COMPILED,
    ("B21", "+ chunked CE"): COMPILED,
    ("B21", "+ activation checkpointing"): COMPILED,
    ("B21", "+ optimizer in backward"): COMPILED,
    ("B21", "+ activation offloading"): COMPILED,
    ("B21", "+ 8-bit AdamW"): COMPILED,
    ("B21", "LoRA"): COMPILED,
    ("B21", "QLoRA"): COMPILED,
    ("B22", "LoRA q,v r8, training, reserved"): DATA,
    ("B22", "QLoRA after init, reserved"): QUANTIZED,
    ("B22", "QLoRA training, reserved"): QUANTIZED,
    ("B22", "all layers r8"): DATA,
    ("B22", "q,v r64"): DATA,
    ("B22", "all r64"): DATA,
    ("B24", "8-bit"): "states in 8 bits, by compiled code of torchao",
    ("B24", "4-bit"): "states in 4 bits, by compiled code of torchao",
    ("B31", "FSDP, 4 GPUs, each"): "fairscale's own sharding, which torch has not",
    ("B31", "offload, checkpointing, 1 GPU"): "fairscale's own offloading, which torch has not",
}
