"""The older name of ``fastnet.hub.load_state_dict_from_url``."""

from fastnet.hub import load_state_dict_from_url

load_url = load_state_dict_from_url

__all__ = ["load_url"]
