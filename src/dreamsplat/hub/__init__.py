"""Other people's models: where they are, how they are fetched, what went wrong.

Throughout, a `model` is a folder or a hub id "owner/name"; a `revision` is a branch, tag or commit of the hub id, None
for its main branch; and `files` are glob patterns, such as "unet/*.safetensors".
"""
