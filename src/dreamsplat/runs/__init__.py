"""A run of the method in a folder: carried out as events, stopped and resumed, recorded, listed.

    from dreamsplat.runs import Failed, Stepped, execute

    for event in execute(Path("mushroom"), DreamConfig(prompt="a red mushroom")):
        if isinstance(event, Stepped):
            print(event.step, event.result.metrics)
        elif isinstance(event, Failed):
            raise event.error

The names of `__init__.pyi` are public. They are looked up on first use, so that a list of runs does not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
