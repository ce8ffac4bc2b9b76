# Part of _core.pyx: the walk back over the calls of ops.

cdef class Node:
    """A call of an op, to which gradients flow back."""
    cdef public tuple sources                 # where the gradients of its inputs go, see sources_of; None: backward is over
    cdef public object label
    cdef list given                           # of its inputs (shape, dtype) or None
    cdef readonly bint spare                  # in backward: the gradient of its only output is needed no more, and may be written over
    cdef int64_t order
    cdef Pattern leaves                       # what a plain call leaves, which its backward completes
    cdef Pattern pattern, back                # what another was called by, what is known of its backward, and arrays for it
    cdef list arrays

    def follow(self, tuple inputs, arrays):
        """Note where gradients go, and that this call is the latest."""
        self.enter(inputs)
        self.given = [None if a is None else (a.shape, a.dtype) for a in arrays]

    cdef enter(self, tuple inputs):
        global calls_of_ops
        self.sources, self.label, self.order = sources_of(inputs), label_now, calls_of_ops
        calls_of_ops += 1

    cdef Node plain(self):
        """The same call in Python, for an op whose backward was not known when it was called."""
        cdef Apply owner = self.pattern.owner
        cdef Node op = owner.op.__new__(owner.op)
        cdef list tensors = []
        for i in range(len(self.sources)):
            a = self.arrays[i]
            tensors.append(None if a is None else new_tensor(a, None, 0))
            if self.sources[i] is not None:
                (<Value>tensors[i]).requires_grad = True
        op.__dict__.update(self.pattern.options)
        no_grad, bfloat16 = fd_no_grad, fd_bfloat16
        set_mode(0, self.pattern.bfloat16)
        try:
            if self.pattern.back is None and self.pattern.isa == isa and owner.fit() and capture is None:
                owner.first(op, tuple(tensors), self.arrays[:len(tensors)], self.pattern.key, self.pattern.options)
            else:
                op(*tensors)
        finally:
            set_mode(no_grad, bfloat16)
        op.sources, op.label = self.sources, self.label
        return op

    cdef object first(self, list d_out, list d_inputs, bint wanted):
        """The op's own backward, and what it returns; it completes what the call has left, where it can."""
        cdef Pattern forward = self.leaves, back = Pattern()
        cdef int i
        cdef bint learns = forward is not None and forward.isa == isa and forward.settings == settings and forward.owner.fit() \
            and capture is None
        made = None
        if learns:
            for r in forward.seen:
                back.add(None if r is None else r(), False, True)
            for d in d_out + d_inputs:
                if d is not None:
                    back.add(d, False)
            begin_capture(back)
        try:
            if self.views:
                made = self.backward(d_out[0])
            elif wanted:
                self.backward(d_out if self.outputs > 1 else d_out[0], *d_inputs)
        finally:
            self.leaves = None
            if learns:
                end_capture()
        if not learns or back.unfit:
            return made
        if made is not None:
            back.results = (back.result(made),)
        if back.void or back.checks:
            forward.owner.keep(forward.key, None)
            return made
        for i in range(forward.n_places):
            forward.place(i).shown |= back.place(i).used
        for i in range(forward.n_places, back.n_places):
            back.place(i).shown |= not back.place(i).made
        forward.back, forward.same, forward.seen, back.seen = back, self.same, None, None
        forward.idle = tuple([i for i in range(forward.n_places) if not back.place(i).used])
        return made

    cdef list repeat(self, list d_out, list d_inputs):
        """The gradients of d_inputs' inputs, those that are None in new arrays; of an op that gives a view, that alone."""
        cdef Pattern back = self.back
        cdef int i, first = self.pattern.n_places
        cdef list arrays = self.arrays + d_out + d_inputs
        for i in range(first, len(arrays)):
            a = arrays[i]
            if a is not None and (cnp.PyArray_TYPE(a) != back.place(i).kind or cnp.PyArray_NBYTES(a) != back.place(i).bytes or
                                  not cnp.PyArray_CHKFLAGS(a, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)):
                raise TypeError(f"backward: {type(self).__name__} was given a gradient of shape {a.shape} and dtype {a.dtype}")
        arrays.extend([None] * (back.n_places - len(arrays)))
        back.run(arrays)
        first += len(d_out)
        return arrays[first:first + len(d_inputs)] if back.results is None else [back.take(arrays, 0)]


cdef class Walk:
    """One backward: what has arrived at the outputs of ops and at leaves, and the ops that have not been walked, the latest first."""
    cdef dict of                              # (op or leaf, which output) -> (sum, whether it may be added to in place)
    cdef list heap
    cdef set seen
    cdef bint fill                            # the gradients of leaves; else those of targets are wanted

    def __cinit__(self, bint fill):
        self.of, self.heap, self.seen, self.fill = {}, [], set(), fill

    cdef reach(self, Node node):
        if node not in self.seen:
            if node.sources is None:
                raise RuntimeError(f"backward ran through {type(node).__name__} already; the first time needs retain_graph=True")
            self.seen.add(node)
            heappush(self.heap, (-node.order, node))

    cdef add(self, tuple key, array, bint owned):
        """One more contribution."""
        before = self.of.get(key)
        if before is None:
            self.of[key] = array, owned
            return
        total, mine = before
        if not mine:
            if owned:
                total, array = array, total
            else:
                copy = empty(total.shape, total.dtype)
                kernels_by_name["copy"](copy, total, size=total.size)
                total = copy
        kernels_by_name["accumulate"](total, array, size=total.size)
        self.of[key] = total, True

    cdef back(self, Node node, list d_out, bint owned):
        """From the gradients of the outputs to those of the inputs; owned: the only d_out may be overwritten."""
        if node.pattern is not None and recording_now():
            raise hooks["recording"](f"backward inside a recorded step ran through {type(node).__name__}, which was called before the step."
                                     "\n  Compute inside of the step what its gradients go through.")
        if node.pattern is not None and node.back is None:
            node = node.plain()
        cdef Pattern pattern = node.pattern
        cdef bint views = node.views if pattern is None else node.back.results is not None
        cdef tuple same = node.same if pattern is None else pattern.same
        cdef list d_inputs = [None] * len(node.sources), keys = []
        cdef dict before = {}
        cdef int i
        for i in range(len(d_out)):
            if d_out[i] is None:
                d_out[i] = empty(*node.out_shapes[i]) if pattern is None else pattern.new(pattern.results[i][0])
                kernels_by_name["fill"](d_out[i], size=d_out[i].size, value=0.0)
        d = d_out[0]
        for i in range(len(node.sources)):
            source = node.sources[i]
            if source is None:
                continue
            buffer = None
            if type(source) is tuple:
                key = source
                self.reach(source[0])
            else:
                key = source, 0
                buffer = (<Value>source).buffer if self.fill else None
                if buffer is not None and (key in self.of or has(node.sources[:i], source)):
                    buffer = None
            if i in same:
                self.add(key, d, False)
                continue
            keys.append((i, key))
            if pattern is None and i in node.adds and node.leaves is None and buffer is None and key in self.of:
                if not node.in_place:
                    before[i] = self.of.pop(key)[0]
                elif self.of[key][1] and (self.of[key][0].shape, self.of[key][0].dtype) == node.given[i]:
                    d_inputs[i] = before[i] = self.of.pop(key)[0]
                    continue
            if buffer is not None or views or pattern is not None:
                d_inputs[i] = buffer
            elif owned and i == node.overwrites and node.leaves is None and not same and (d.shape, d.dtype) == node.given[i]:
                d_inputs[i] = d
            else:
                d_inputs[i] = empty(*node.given[i])
        if pattern is not None:
            found = node.repeat(d_out, [] if views else [d_inputs[i] for i, _ in keys])
        else:
            node.spare = owned and node.leaves is None and not same
            if node.adds:
                node.before = before
            made = node.first(d_out, d_inputs, bool(keys))
            found = [made if views else d_inputs[i] for i, _ in keys]
        for (_, key), d in zip(keys, found):
            self.add(key, d, not views)


cdef bint has(tuple sources, source):
    """Whether this very object is among the sources; `in` would compare tensors."""
    for s in sources:
        if s is source:
            return True
    return False


def backward(tensors, seeds, targets=None, bint retain_graph=False):
    """Walk the ops back from the tensors, whose gradients are `seeds`.

    Without targets, .grad of every leaf is set. With targets (tensors), nothing is set, and their gradients are returned as
    a list of arrays; None for a tensor on which the result does not depend.
    """
    global label_now
    cdef Walk walk = Walk(targets is None)
    cdef Node node
    cdef Value t
    cdef int i, outputs
    wanted = {} if targets is None else {origin(t): i for i, t in enumerate(targets)}
    results = [None] * len(wanted)
    for t, seed in zip(tensors, seeds):
        walk.add(origin(t), seed, False)
        if t.node is not None:
            walk.reach(t.node)
    while walk.heap:
        node = heappop(walk.heap)[1]
        outputs = node.outputs if node.pattern is None else len(node.pattern.results)
        d_out, owned = [], outputs == 1
        for i in range(outputs):
            key = node, i
            d, mine = walk.of.pop(key, (None, False))
            d_out.append(d)
            owned = owned and mine
            if key in wanted:
                results[wanted[key]], owned = d, False
        before, label_now = label_now, node.label
        try:
            walk.back(node, d_out, owned)
        finally:
            label_now = before
        if not retain_graph:
            node.sources = node.arrays = None
            if node.pattern is None:
                node.release()
        node = d_out = d = key = None
    for key, (array, _) in walk.of.items():
        if targets is None:
            t = key[0]
            if t.buffer is not None and array is not t.buffer:
                kernels_by_name["copy"](t.buffer, array, size=array.size)
                array = t.buffer
            t.grad = array
        elif key in wanted:
            results[wanted[key]] = array
    return results


cdef tuple origin(Value t):
    """Where the gradient of a tensor gathers."""
    return (t if t.node is None else t.node, t.index)
