import pytest
import torch


@pytest.fixture
def without_cudnn():
    """As builds of torch for CUDA are that run without a card."""
    cudnn, sdp = torch.backends.cudnn.enabled, torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cudnn.enabled = False
    torch.backends.cuda.enable_cudnn_sdp(False)
    yield
    torch.backends.cudnn.enabled = cudnn
    torch.backends.cuda.enable_cudnn_sdp(sdp)
