"""What a kernel costs on this machine's cores, before it is compiled.

The kernel is lowered to loops over vectors as it is when it is compiled. ``numbers`` evaluates its integers for the
call's extents and strides, ``analysis`` finds what an execution of each region takes of the core and how its accesses
walk through memory, ``execution`` how often regions run, ``caches`` where their accesses find what they need, and
``predict`` puts that together. ``machine`` is the record of the host.
"""
