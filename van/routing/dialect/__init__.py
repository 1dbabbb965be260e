"""How routers of the native dialect (skupper-router 3.x) write what is theirs: annotations, control messages, Open.

Nothing outside this package knows an encoding that another family of routers would do differently.
"""
