"""Calls as people write them, a line each: what each asks the allocator for is on record.

`R` makes numbers that want a gradient, `I` indices. This file, run with the name of another, writes
there what a CUDA build of torch allocates; without cuDNN, as such builds without a card are.
"""

import json
import sys
import warnings

import torch
from torch import nn
from torch.nn import functional


def numbers(*shape, g=True, **options):
    return torch.randn(*shape, device="cuda", requires_grad=g, **options)


def indices(*shape):
    return torch.zeros(*shape, dtype=torch.int64, device="cuda")


CALLS = """
x=R(10,4,48).transpose(0,1); n=nn.LayerNorm(48).cuda(); y=n(x); y.backward(torch.randn(10,4,48,device='cuda').transpose(0,1))
x=R(10,4,48).transpose(0,1); n=nn.RMSNorm(48).cuda(); y=n(x); y.backward(torch.randn(10,4,48,device='cuda').transpose(0,1))
x=R(10,4,48).transpose(0,1); n=nn.GroupNorm(2,10).cuda(); y=n(x); y.backward(torch.randn(10,4,48,device='cuda').transpose(0,1))
x=R(10,4,48).transpose(0,1); n=nn.BatchNorm1d(10).cuda(); y=n(x); y.backward(torch.randn(10,4,48,device='cuda').transpose(0,1))
x=R(10,4,48).transpose(0,1); n=nn.InstanceNorm1d(10).cuda(); y=n(x); y.backward(torch.randn(10,4,48,device='cuda').transpose(0,1))
x=R(10,4,48).transpose(0,1); y=F.gelu(x); y.sum().backward()
x=R(10,4,48).transpose(0,1); y=F.dropout(x,.2); y.sum().backward()
x=R(10,4,48).transpose(0,1); y=x.cumsum(1); y.sum().backward()
x=R(10,4,48); y=F.soft_margin_loss(x,torch.ones_like(x)); y.backward()
x=R(40,48); y=F.nll_loss(x,I(40)); y.backward()
x=R(40,48); y=F.multi_margin_loss(x,I(40)); y.backward()
x=R(40,48); y=F.multilabel_margin_loss(x,I(40,48)); y.backward()
x=R(40,48); y=F.cosine_similarity(x,x*2).sum(); y.backward()
x=R(100,8); y=F.embedding(I(4,48),x); y.sum().backward()
x=R(40,48); y=x.logcumsumexp(1); y.sum().backward()
x=R(40,48); y=x.cumprod(1); y.sum().backward()
x=R(40,48); y=x.cummax(1)[0]; y.sum().backward()
x=R(50,4,20); y=F.ctc_loss(x.log_softmax(2), torch.ones(4,10,dtype=torch.long,device='cuda'), torch.full((4,),50), torch.full((4,),10)); y.backward()
x=R(2,3,8,8); y=F.grid_sample(x, R(2,5,5,2)); y.sum().backward()
x=R(40,48); y=F.triplet_margin_loss(x,x*2,x*3); y.backward()
x=R(40,48); y=x.renorm(2,0,1.0); y.sum().backward()
x=R(40,48); y=torch.cdist(x,x*2); y.sum().backward()
x=R(40,48); y=x.std(); y.backward()
x=R(40,48); y=x.quantile(.5)
x=R(40,48); y=x.median()
x=R(40,48); y=x.median(1)[0]; y.sum().backward()
x=R(40,48); y=x.kthvalue(3,1)[0]
x=R(40,48); y=x.mode(1)[0]
x=R(40,48); y=torch.trapezoid(x,dim=1); y.sum().backward()
x=R(4000,g=False); y=torch.histc(x)
y=torch.bincount(I(1000),minlength=10)
x=R(40,48); y=x.flip(1).roll(3,1).tril().triu(); y.sum().backward()
x=R(4,8); y=torch.kron(x,x); y.sum().backward()
x=R(2,4,10,48); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
x=R(40,48); y=F.mse_loss(x,R(40,48),reduction='none').mean(); y.backward()
x=R(40,48); y=F.kl_div(x.log_softmax(1),R(40,48,g=False).softmax(1),reduction='batchmean'); y.backward()
x=R(40,48); y=F.gaussian_nll_loss(x,x*2,x.abs()+1); y.backward()
x=R(40,48); y=F.poisson_nll_loss(x,x*2); y.backward()
x=R(40,48); y=F.l1_loss(x,x*2); y.backward()
x=R(40); y=F.margin_ranking_loss(x,x*2,torch.ones(40,device='cuda')); y.backward()
x=R(40,48); y=F.hinge_embedding_loss(x,torch.ones(40,48,device='cuda')); y.backward()
x=R(40,48); y=F.multilabel_soft_margin_loss(x,torch.ones(40,48,device='cuda')); y.backward()
x=R(40,48); y=F.cosine_embedding_loss(x,x*2,torch.ones(40,device='cuda')); y.backward()
x=R(40,48).sigmoid(); y=F.binary_cross_entropy(x,torch.ones(40,48,device='cuda')); y.backward()
x=R(400,48); y=F.cross_entropy(x,torch.zeros(400,48,device='cuda').softmax(1)); y.backward()
x=R(4,20,30); y=F.cross_entropy(x,I(4,30),ignore_index=0); y.backward()
x=R(40,48,dtype=torch.half); y=F.cross_entropy(x.float(),I(40)); y.backward()
x=R(40,48); y=x.norm(dim=1).sum(); y.backward()
x=R(40,48); y=F.normalize(x).sum(); y.backward()
x=R(40,48); y=x.var(0).sum()+x.mean(0).sum(); y.backward()
x=R(40,48); y=x.logsumexp(1).sum(); y.backward()
x=R(40,48); y=x.amax(1).sum(); y.backward()
x=R(40,48); y=x.max(1)[0].sum(); y.backward()
x=R(40,48); y=x.sort(1)[0].sum(); y.backward()
x=R(40,48); y=x.topk(5,1)[0].sum(); y.backward()
x=R(40,48); y=x[I(7)].sum(); y.backward()
x=R(40,48); y=x[:,I(7)].sum(); y.backward()
x=R(40,48); y=x[I(7),I(7)].sum(); y.backward()
x=R(40,48); y=x.gather(1,I(40,5)).sum(); y.backward()
x=R(40,48); y=x.index_select(0,I(6)).sum(); y.backward()
x=R(40,48); y=torch.where(x>0,x,0.0).sum(); y.backward()
x=R(40,48); y=x.masked_fill(x>0,0.0).sum(); y.backward()
x=R(40,48); y=x.clamp(0,1).sum(); y.backward()
x=R(40,48); y=torch.einsum('ij,kj->ik',x,x).sum(); y.backward()
x=R(40,48); y=torch.stack([x,x]).sum(); y.backward()
x=R(40,48); y=torch.cat([x,x],1).split(7,1)[2].sum(); y.backward()
x=R(4,5,6); y=x.permute(2,0,1).reshape(6,20).sum(); y.backward()
x=R(4,5,6); y=x.unfold(1,2,1).sum(); y.backward()
x=R(40,48); y=x.repeat(2,3).sum(); y.backward()
x=R(40,48); y=x.repeat_interleave(3,0).sum(); y.backward()
x=R(40,1); y=(x.expand(40,48)*R(40,48)).sum(); y.backward()
x=R(20,20); y=torch.linalg.inv(x@x.T+torch.eye(20,device='cuda')).sum()
x=R(4,20,20); y=torch.linalg.cholesky(x@x.mT)
x=R(4,20,20); y=torch.linalg.solve(x,R(4,20,3))
x=R(4,20,20); y=torch.linalg.eigh(x)
x=R(4,20,20); y=torch.linalg.svd(x)
y=torch.randperm(1000,device='cuda'); y=torch.rand(10,device='cuda').bernoulli(); y=torch.normal(0,1,(10,),device='cuda'); y=torch.empty(10,device='cuda').exponential_()
y=torch.linspace(0,1,100,device='cuda'); y=torch.logspace(0,1,100,device='cuda'); y=torch.eye(10,device='cuda'); y=torch.full((3,),2.,device='cuda'); y=torch.meshgrid(y,y)
y=F.one_hot(I(40),10)
y=F.gumbel_softmax(R(40,10),hard=True).sum().backward()
x=R(4,8,16); m=nn.Bilinear(16,16,8).cuda(); y=m(x,x); y.sum().backward()
x=R(2,8,6,6,6); y=F.max_pool3d(x,2).sum()+F.avg_pool3d(x,2).sum(); y.backward()
x=R(2,8,64); y=F.max_pool1d(x,2).sum()+F.avg_pool1d(x,2).sum()+F.adaptive_max_pool1d(x,3).sum(); y.backward()
x=R(2,8,16,16); y=F.adaptive_max_pool2d(x,3).sum(); y.backward()
x=R(2,8,16,16); y=F.lp_pool2d(x,2,3).sum(); y.backward()
x=R(2,8,16,16); y=F.interpolate(x,scale_factor=.5,mode='bicubic').sum()+F.interpolate(x,size=7,mode='area').sum(); y.backward()
x=R(2,8,16,16); y=F.interpolate(x,scale_factor=2,mode='bilinear',antialias=True).sum(); y.backward()
x=R(2,8,16,16); y=F.fold(F.unfold(x,3,padding=1),16,3,padding=1).sum(); y.backward()
x=R(2,8,16,16); y=F.pad(x,(1,1,1,1),mode='circular').sum()+F.pad(x,(1,1,1,1),mode='replicate').sum(); y.backward()
x=R(2,8,16,16); y=F.pixel_unshuffle(x,2).sum()+F.channel_shuffle(x,2).sum(); y.backward()
x=R(2,8,16,16).contiguous(memory_format=torch.channels_last); y=F.relu(x)*2; y=nn.BatchNorm2d(8).cuda()(y); y.sum().backward()
x=R(2,8,16,16).contiguous(memory_format=torch.channels_last); y=nn.GroupNorm(2,8).cuda()(x); y.sum().backward()
x=R(40,48); y=F.rrelu(x,training=True)+F.prelu(x,R(1))+F.glu(x).repeat(1,2)+F.hardtanh(x)+F.threshold(x,.1,2); y.sum().backward()
x=R(40,48); y=F.alpha_dropout(x,.2)+F.feature_alpha_dropout(x,.2)+F.dropout1d(x,.2); y.sum().backward()
m=nn.GRUCell(12,20).cuda(); y=m(R(5,12)); y.sum().backward()
m=nn.LSTMCell(12,20).cuda(); y=m(R(5,12))[0]; y.sum().backward()
m=nn.LSTM(12,20,2).cuda(); y=m(R(7,5,12))[0]; y.sum().backward()
m=nn.GRU(12,20,bidirectional=True).cuda(); y=m(R(7,5,12))[0]; y.sum().backward()
m=nn.RNN(12,20).cuda(); y=m(R(7,5,12))[0]; y.sum().backward()
m=nn.Embedding(100,8,max_norm=1.0).cuda(); y=m(I(10)); y.sum().backward()
m=nn.Embedding(100,8,sparse=True).cuda(); y=m(I(10)); y.sum().backward()
m=nn.Embedding(100,8,padding_idx=0,scale_grad_by_freq=True).cuda(); y=m(I(10)); y.sum().backward()
m=nn.utils.parametrizations.weight_norm(nn.Linear(8,9)).cuda(); y=m(R(4,8)); y.sum().backward()
m=nn.utils.parametrizations.spectral_norm(nn.Linear(8,9)).cuda(); y=m(R(4,8)); y.sum().backward()
m=nn.Transformer(16,2,1,1,32,batch_first=True).cuda(); y=m(R(2,5,16),R(2,6,16)); y.sum().backward()
m=nn.TransformerDecoderLayer(16,2,32,batch_first=True).cuda(); y=m(R(2,5,16),R(2,6,16),tgt_mask=nn.Transformer.generate_square_subsequent_mask(5,device='cuda')); y.sum().backward()
m=nn.TransformerEncoderLayer(16,2,32,batch_first=True).cuda(); y=m(R(2,5,16),src_key_padding_mask=torch.zeros(2,5,dtype=torch.bool,device='cuda')); y.sum().backward()
m=nn.MultiheadAttention(16,2,batch_first=True).cuda(); y=m(R(2,5,16),R(2,6,16),R(2,6,16))[0]; y.sum().backward()
x=R(4,10,48); n=nn.BatchNorm1d(10).cuda(); y=n(x); y.backward(torch.randn(10,4,48,device='cuda').transpose(0,1))
x=R(10,4,48,g=False).transpose(0,1).requires_grad_(); n=nn.BatchNorm1d(10).cuda(); y=n(x); y.backward(torch.randn(4,10,48,device='cuda'))
x=R(4,10,48); n=nn.BatchNorm1d(10).cuda(); y=n(x); y.sum().backward()
x=R(4,10,6,8); n=nn.BatchNorm2d(10).cuda(); y=n(x); y.sum().backward()
x=R(4,10,6,8); n=nn.BatchNorm2d(10).cuda(); y=n(x); y.mean((2,3)).sum().backward()
x=R(4,10,6,8); n=nn.BatchNorm2d(10).cuda(); y=n(x); y.backward(torch.randn(10,4,6,8,device='cuda').transpose(0,1))
x=R(4,10,6,8).contiguous(memory_format=torch.channels_last); n=nn.BatchNorm2d(10).cuda(); y=n(x); y.sum().backward()
x=R(4,10,6,8).contiguous(memory_format=torch.channels_last); n=nn.BatchNorm2d(10).cuda(); y=n(x); y.backward(torch.randn(4,10,6,8,device='cuda'))
x=R(4,10,6,8); n=nn.BatchNorm2d(10).cuda().eval(); y=n(x); y.sum().backward()
x=R(4,10); n=nn.BatchNorm1d(10).cuda(); y=n(x); y.sum().backward()
x=R(10,4,48).transpose(0,1); y=x.cumsum(1)
x=R(10,4,48).transpose(0,1); y=x.cumsum(2)
x=R(40,48); y=x.cumsum(0); y.sum().backward()
x=R(5,12,8,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.zeros(12,12,device='cuda',dtype=torch.half))
x=R(2,5,13,8,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.zeros(13,13,device='cuda',dtype=torch.half)); y.sum().backward()
x=R(2,5,13,8); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.ones(13,13,device='cuda',dtype=torch.bool)); y.sum().backward()
x=R(2,5,13,8); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.ones(2,1,1,13,device='cuda',dtype=torch.bool)); y.sum().backward()
x=R(2,5,13,24,dtype=torch.bfloat16); y=F.scaled_dot_product_attention(x,x,x,is_causal=True); y.sum().backward()
x=R(2,5,13,20,dtype=torch.bfloat16); y=F.scaled_dot_product_attention(x,x,x,is_causal=True); y.sum().backward()
x=R(2,5,13,20); y=F.scaled_dot_product_attention(x,x,x,is_causal=True); y.sum().backward()
x=R(2,5,13,72); y=F.scaled_dot_product_attention(x,x,x,dropout_p=.1); y.sum().backward()
x=R(2,5,13,72,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.zeros(2,5,13,13,device='cuda',dtype=torch.half).requires_grad_()); y.sum().backward()
x=R(2,5,130,128,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.zeros(130,130,device='cuda',dtype=torch.half)); y.sum().backward()
x=R(2,5,130,128); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
x=R(2,5,130,256,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
x=R(5,13,64,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
x=R(2,5,13,64,dtype=torch.double); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
q=R(2,8,13,64,dtype=torch.half); x=R(2,2,20,64,dtype=torch.half); y=F.scaled_dot_product_attention(q,x,x,enable_gqa=True); y.sum().backward()
q=R(2,8,13,64); x=R(2,2,20,64); y=F.scaled_dot_product_attention(q,x,x,enable_gqa=True); y.sum().backward()
q=R(2,8,1,64,dtype=torch.half,g=False); x=R(2,8,2000,64,dtype=torch.half,g=False); y=F.scaled_dot_product_attention(q,x,x)
m=nn.MultiheadAttention(16,2,batch_first=True,dropout=.1).cuda(); y=m(R(2,5,16),R(2,6,16),R(2,6,16),key_padding_mask=torch.zeros(2,6,dtype=torch.bool,device='cuda'))[0]; y.sum().backward()
m=nn.MultiheadAttention(16,2,dropout=.1,add_zero_attn=True,bias=False).cuda().half(); y=m(R(5,2,16,dtype=torch.half),R(6,2,16,dtype=torch.half),R(6,2,16,dtype=torch.half),need_weights=False)[0]; y.sum().backward()
x=R(2,5,130,96,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.zeros(130,136,device='cuda',dtype=torch.half)[:,:130]); y.sum().backward()
x=R(2,5,130,160,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.zeros(130,136,device='cuda',dtype=torch.half)[:,:130]); y.sum().backward()
x=R(2,5,130,256,dtype=torch.bfloat16); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.zeros(130,136,device='cuda',dtype=torch.bfloat16)[:,:130]); y.sum().backward()
x=R(2,5,130,160); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
x=R(2,5,130,256); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
x=R(2,5,13,32); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
x=R(2,5,300,48,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x,attn_mask=torch.zeros(300,304,device='cuda',dtype=torch.half)[:,:300]); y.sum().backward()
l=nn.Linear(64,32).cuda(); x=R(100,64); y=l(x); z=l(x); y.sum().backward()
x=R(100,64); w=R(64,32); y=x@w; y=x@w; y.sum().backward()
x=R(100,64); w=R(64,32); b=R(100,32); y=torch.addmm(b,x,w);
x=R(100,64); w=R(64,1); b=R(1); y=torch.addmm(b,x,w);
x=R(100,64); w=R(1,32)[0:1]; b=R(32); y=torch.addmm(b,R(100,1),w);
x=R(1,64); w=R(64,32); b=R(32); y=torch.addmm(b,x,w);
x=R(100,64,dtype=torch.half); l=nn.Linear(64,32).cuda().half(); y=l(x); y.sum().backward()
x=R(4,100,64); w=R(4,64,32); y=torch.bmm(x,w); y.sum().backward()
x=R(100,64,dtype=torch.double); l=nn.Linear(64,32).cuda().double(); y=l(x)
x=R(100,64); w=R(64); y=x@w; y=torch.dot(w,w)
x=R(100,64); w=R(64,32); b=R(32); y=torch.addmm(b,x,w,beta=.5)
x=R(100,64); w=R(64,32); b=R(64)[::2]; y=torch.addmm(b,x,w)
x=R(2,3,100,64); l=nn.Linear(64,32).cuda(); y=l(x); y=l(x.transpose(1,2))
x=R(100,64); w=R(64,32); b=R(1,32); y=torch.addmm(b,x,w)
x=R(2,2,13,64); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
x=R(2,2,13,64,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x); y.sum().backward()
x=R(2,2,13,64,dtype=torch.half); y=F.scaled_dot_product_attention(x,x,x,dropout_p=.1); y.sum().backward()
x=R(30,20,g=False); x[:, 0]=1.0
x=R(30,20,g=False); x[x>0]=1.0
x=R(30,20,g=False); x[3:5, 2]=2
p=[R(5),R(300,400)]; [setattr(q,'grad',torch.zeros_like(q)) for q in p]; nn.utils.clip_grad_norm_(p,1.0)
p=[R(5),R(300,400)]; [setattr(q,'grad',torch.zeros_like(q)) for q in p]; torch.optim.ASGD(p).step()
p=[R(5),R(300,400)]; [setattr(q,'grad',torch.zeros_like(q)) for q in p]; torch.optim.SGD(p,lr=.1,fused=True).step()
p=[R(5),R(300,400)]; [setattr(q,'grad',torch.zeros_like(q)) for q in p]; torch.optim.Adagrad(p,fused=True).step()
y=torch._foreach_max([R(5,g=False),R(300,400,g=False)])
x=R(40,48); y=F.mish(x)+F.silu(x)+F.logsigmoid(x)+F.softplus(x)+F.elu(x)+F.selu(x)+F.celu(x)+F.hardswish(x)+F.hardsigmoid(x)+F.leaky_relu(x)+F.softsign(x)+F.tanhshrink(x)+F.softshrink(x)+F.hardshrink(x)+F.relu6(x); y.sum().backward()
x=R(30); y=(2.0**x).sum(); y.backward()
l=nn.TransformerEncoderLayer(48,4,96,batch_first=True,norm_first=True).cuda().eval(); torch.no_grad().__enter__(); y=l(R(2,5,48,g=False)); torch.set_grad_enabled(True)
l=nn.TransformerEncoderLayer(48,4,96,batch_first=True).cuda().half().eval(); torch.no_grad().__enter__(); y=l(R(2,5,48,g=False,dtype=torch.half)); torch.set_grad_enabled(True)
m=nn.MultiheadAttention(48,4,batch_first=True).cuda().eval(); x=R(2,5,48,g=False); torch.no_grad().__enter__(); y=m(x,x,x); y=m(x,x,x,need_weights=False); torch.set_grad_enabled(True)
from torch.nn.attention import sdpa_kernel, SDPBackend as B; x=R(2,3,10,16); c=sdpa_kernel(B.MATH); c.__enter__(); y=F.scaled_dot_product_attention(x,x,x,is_causal=True,dropout_p=.1); c.__exit__(None,None,None); y.sum().backward()
m=nn.EmbeddingBag(1000,64,mode='mean').cuda(); y=m(I(64,10)); y.sum().backward()
m=nn.EmbeddingBag(1000,64,mode='sum').cuda(); y=m(I(500,40)); y.backward(torch.randn(500,64,device='cuda'))
m=nn.EmbeddingBag(1000,64,mode='max').cuda(); y=m(I(64,10)); y.sum().backward()
m=nn.EmbeddingBag(1000,64,mode='sum').cuda(); y=m(I(2000,50)); y.sum().backward()
m=nn.EmbeddingBag(1000,64,mode='sum').cuda(); y=m(I(300),torch.tensor([0,100,200],device='cuda')); y.sum().backward()
""".strip().splitlines()


def run(call):
    """Run one line with the names it knows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(call, {"torch": torch, "nn": nn, "F": functional, "R": numbers, "I": indices})


def without_cudnn():
    torch.backends.cudnn.enabled = False
    torch.backends.cuda.enable_cudnn_sdp(False)


def main():
    without_cudnn()
    torch.cuda.memory._record_memory_history(max_entries=10_000_000)
    found = {}
    for call in CALLS:
        torch._C._cuda_clearCublasWorkspaces()
        before = len(torch.cuda.memory._snapshot()["device_traces"][0])
        run(call)
        trace = torch.cuda.memory._snapshot()["device_traces"][0][before:]
        found[call] = [event["size"] for event in trace if event["action"] == "alloc"]
    with open(sys.argv[1], "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(found, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
