"""For tests of programs that use the Hub: a Hub of one's own, and pytest's fixture for it.

def test_my_upload(hub):              # pytest finds the fixture by itself
    my_program.upload("user/model")   # the client is set up for this Hub and knows no other
    assert hub.files("user/model") == {"model.safetensors", ...}
"""

from .hub_server import HubServer

__all__ = ["HubServer"]
