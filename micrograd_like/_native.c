/* The engine in C.

   The law of this file: everything here is what engine.py says, faster; a difference is a bug in
   this file. `engine.py` is what people read, and the specification; the names are those it uses,
   and the order of the sections is its own: the node, its attributes, its operators, rows applied
   to it, the sweep, the order of a graph. At the end there is the sum of products of sums.py.

   Three things are said here, because Python does them for engine.py:

   - Memory. A node is a struct of 96 bytes, which the cyclic collector does not track: a graph has
     no cycles, and to look for some would take half of the time. A user's subclass may have
     attributes, and close a cycle by them (`p.last = loss`). So a node with a tracked operand is
     made as one of a twin type that is tracked too, and all others are untracked. Graphs of any
     depth are freed by a loop, whatever the size of the stack.
   - Atomicity. No other thread and no signal handler runs in a sweep but where `interrupted` looks
     for Ctrl-C. The sweep gathers in an array, and writes the gradients all at once; if a handler
     swept a graph itself, it starts again. So no lock is needed.
   - Arithmetic. The compiler must not contract a * b + c: it is called with -ffp-contract=off.

   Whatever need not be fast is called in Python: rows of the table, numbers of unusual types, modes
   while one is open, refusals. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Where one of these holds nothing is built, and engine.py does the work. */
#ifdef Py_GIL_DISABLED
#error "marks and the free list rely on the interpreter's lock"
#endif
#ifdef PYPY_VERSION
#error "a compiler just in time is faster with Python's text"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "floats are computed with another precision than Python's"
#endif

#ifdef _MSC_VER
#define THREAD_LOCAL __declspec(thread)
#pragma fp_contract(off)
#else
#define THREAD_LOCAL _Thread_local
#endif

/* --- the node --------------------------------------------------------------------------------- */

/* The operands of a node that has more than two, or none, in one block of memory.

   `parent` are those that have a local derivative, in their order: where they are all the operands,
   the same array. References are held by `operand` alone. */
typedef struct {
    Py_ssize_t operands, parents;
    double *local;
    struct Node **parent;
    PyObject *operand[1]; /* Nodes and floats; as many as there are operands */
} Many;

typedef struct Node {
    PyObject_HEAD
    double data, grad;
    PyObject *label; /* NULL for "", when nobody has given one */
    PyObject *op;    /* the row of the table; NULL for a leaf */
    PyObject *a, *b; /* the first and the second operand, Node or float; NULL if there is none */
    union {
        uint64_t mark;     /* the number of the last order that met the node, */
        struct Node *next; /* and while it is free, or is freed, the next one */
    };
    uint32_t place; /* and its place there */
    uint8_t shape;
    union {
        double da; /* the local derivatives by them: they count where `shape` says so */
        Many *many;
    };
    double db;
} Node;

enum {
    A_IS_PARENT = 1,
    B_IS_PARENT = 2,
    MANY = 4,  /* the operands are in `many` */
    BLANK = 8, /* of a subclass whose constructor has not called Value's yet */
};

static PyTypeObject *Value;   /* what is called Value in Python */
static PyTypeObject *Tracked; /* its twin, for nodes with a tracked operand */
static Py_ssize_t alive;      /* how many nodes there are: tests look for leaks */

static inline int
is_value(PyObject *x)
{
    return Py_IS_TYPE(x, Value) || Py_IS_TYPE(x, Tracked) || PyType_IsSubtype(Py_TYPE(x), Value);
}

static inline int
is_tracked(PyObject *operand)
{
    return !Py_IS_TYPE(operand, Value) && PyType_IS_GC(Py_TYPE(operand));
}

/* --- what is Python --------------------------------------------------------------------------- */

static PyObject *modes, *open_blocks; /* the module, and what it has */
static PyObject *silences, *watches, *traces, *waits;
static PyObject *number, *number_in, *text;
static PyObject *in_python; /* what is called Value in engine.py, and does what is rare */
static PyObject *OperandError, *DomainError;
static PyObject *row_add, *row_sub, *row_mul, *row_div, *row_power, *row_neg, *row_affine;

/* Names of attributes that are asked for in a hurry, as texts. */
#define NAMES(X)                                                                                   \
    X(is_open) X(entry) X(is_ahead) X(keys) X(kept) X(data) X(grad) X(label)                       \
    X(compute) X(partials) X(evaluate) X(partials_at)
#define DECLARE(name) static PyObject *str_##name;
NAMES(DECLARE)
static PyObject *str_empty;

static inline int
a_mode_is_open(void)
{
    return PyList_GET_SIZE(open_blocks) > 0;
}

/* Let go of what a call gave: 0, or -1 with an exception. */
static int
told(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether a mode has blocks here, the last of which goes to `*last`; -1 with an exception. */
static int
has_blocks(PyObject *mode, PyObject **last)
{
    PyObject *blocks;
    if (PyContextVar_Get(mode, NULL, &blocks) < 0) {
        return -1;
    }
    Py_ssize_t count = PyTuple_CheckExact(blocks) ? PyTuple_GET_SIZE(blocks) : 0;
    if (count && last != NULL) {
        *last = Py_NewRef(PyTuple_GET_ITEM(blocks, count - 1));
    }
    Py_DECREF(blocks);
    return count > 0;
}

/* Whether a training here has learned what its Values have not yet; -1 with an exception. */
static int
is_awaited(void)
{
    PyObject *blocks;
    if (PyContextVar_Get(waits, NULL, &blocks) < 0) {
        return -1;
    }
    Py_ssize_t count = PyTuple_CheckExact(blocks) ? PyTuple_GET_SIZE(blocks) : 0;
    int found = 0;
    for (Py_ssize_t i = 0; i < count && !found; i++) {
        PyObject *training = PyObject_GetAttr(PyTuple_GET_ITEM(blocks, i), str_entry);
        PyObject *ahead = training == NULL ? NULL : PyObject_GetAttr(training, str_is_ahead);
        found = ahead == NULL ? -1 : PyObject_IsTrue(ahead);
        Py_XDECREF(ahead);
        Py_XDECREF(training);
    }
    Py_DECREF(blocks);
    return found;
}

/* `land(values)` of modes.py: 0, or -1 with an exception. */
static int
land(PyObject *values)
{
    int awaited = a_mode_is_open() ? is_awaited() : 0;
    return awaited <= 0 ? awaited : told(PyObject_CallMethod(modes, "land", "(O)", values));
}

/* Whether a mode is to be told of nodes and their numbers here; -1 with an exception. */
static int
is_followed(void)
{
    int found = is_awaited();
    found = found ? found : has_blocks(watches, NULL);
    return found ? found : has_blocks(traces, NULL);
}

static int
touched(Node *self)
{
    int followed = is_followed();
    return followed <= 0 ? followed : told(PyObject_CallMethod(modes, "touched", "O", self));
}

/* Whether `no_grad` is in force here; -1 with an exception. */
static int
is_silent(void)
{
    PyObject *last;
    int silenced = has_blocks(silences, &last);
    if (silenced <= 0) {
        return silenced;
    }
    PyObject *found = PyObject_GetAttr(last, str_is_open);
    Py_DECREF(last);
    if (found == Py_False) { /* it has ended, but was inherited: rarely */
        Py_SETREF(found, PyObject_CallMethod(modes, "innermost", "O", silences));
    }
    int silent = found == NULL ? -1 : PyObject_IsTrue(found);
    Py_XDECREF(found);
    return silent;
}

/* `x` as a float object, as `numerics.number` has it; NULL with an exception. */
static PyObject *
as_number(PyObject *x)
{
    if (PyFloat_CheckExact(x)) {
        return Py_NewRef(x);
    }
    PyObject *result = PyObject_CallOneArg(number, x);
    if (result != NULL && !PyFloat_Check(result)) {
        Py_SETREF(result, NULL);
        PyErr_SetString(PyExc_TypeError, "number() gave no float");
    }
    return result;
}

/* The same as a double: 0, or -1 with an exception. */
static int
to_double(PyObject *x, double *result)
{
    PyObject *f = as_number(x);
    if (f == NULL) {
        return -1;
    }
    *result = PyFloat_AS_DOUBLE(f);
    Py_DECREF(f);
    return 0;
}

static PyObject *
tuple_of(PyObject *const *items, Py_ssize_t n)
{
    PyObject *result = PyTuple_New(n);
    for (Py_ssize_t i = 0; result != NULL && i < n; i++) {
        PyTuple_SET_ITEM(result, i, Py_NewRef(items[i]));
    }
    return result;
}

static int
refuse_blank(Node *node)
{
    PyErr_Format(PyExc_AttributeError,
                 "'%.100s' object has no attribute '_data': its constructor has not called "
                 "Value's, super().__init__(data)",
                 Py_TYPE(node)->tp_name);
    return -1;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* So many freed nodes are kept for the next graph, 12 MB at most: to get their memory from the
   system again would take longer than all else. 0 lets AddressSanitizer see a node that is used
   when it is freed. */
#ifndef FREE_NODES
#define FREE_NODES (1 << 17)
#endif
static Node *free_nodes; /* a list by `next`; each has kept its reference to Value */
static int free_count;

/* Whether `tracemalloc` counts blocks: it is to see nodes come and go, so that none are kept. */
static inline int
memory_is_traced(void)
{
    return PyTraceMalloc_Untrack(0, 0) != -2;
}

/* A node that is a leaf yet, untracked yet; NULL with MemoryError. */
static inline Node *
node_alloc(double data, int tracked)
{
    Node *node;
    if (tracked) {
        node = PyObject_GC_New(Node, Tracked);
    } else if (free_count > 0 && !memory_is_traced()) {
        node = free_nodes;
        free_nodes = node->next;
        free_count--;
        _Py_NewReference((PyObject *)node);
    } else {
        node = PyObject_New(Node, Value);
    }
    if (node == NULL) {
        return NULL;
    }
    node->data = data;
    node->grad = 0.0;
    node->label = node->op = node->a = node->b = NULL;
    node->da = node->db = 0.0;
    node->mark = 0;
    node->place = 0;
    node->shape = 0;
    alive++;
    return node;
}

/* Make a leaf of it. The references go last: what they free may look at the node. */
static void
drop_operands(Node *node)
{
    PyObject *op = node->op, *a = node->a, *b = node->b;
    Many *many = node->shape & MANY ? node->many : NULL;
    node->op = node->a = node->b = NULL;
    node->da = node->db = 0.0;
    node->shape &= BLANK;
    Py_XDECREF(a);
    Py_XDECREF(b);
    if (many != NULL) {
        for (Py_ssize_t i = 0; i < many->operands; i++) {
            Py_DECREF(many->operand[i]);
        }
        PyMem_Free(many);
    }
    Py_XDECREF(op);
}

/* The nodes of this thread that wait to be freed, while `is_open`: then a loop further out is about
   to free something whose end may be that of nodes. */
static THREAD_LOCAL struct {
    Node *first;
    int is_open;
} graves;
static int open_graves; /* in how many threads: where there are none, nobody looks */

/* Let go of what a node refers to. Nodes that die with it come into the list, for the loop that
   calls this; only where something else dies is there more to do. */
static inline void
let_go(PyObject *object, Node **dying)
{
    if (object == NULL) {
        return;
    }
    if (Py_REFCNT(object) > 1 || PyFloat_CheckExact(object) || PyUnicode_CheckExact(object)) {
        Py_DECREF(object);
        return;
    }
#ifndef Py_REF_DEBUG /* which counts what Py_DECREF does */
    int tracked = Py_IS_TYPE(object, Tracked);
    if (tracked || Py_IS_TYPE(object, Value)) {
        if (tracked) {
            PyObject_GC_UnTrack(object);
        }
        ((Node *)object)->next = *dying;
        *dying = (Node *)object;
        return;
    }
#endif
    graves.first = *dying;
    graves.is_open = 1;
    open_graves++;
    Py_DECREF(object);
    open_graves--;
    graves.is_open = 0;
    *dying = graves.first;
    graves.first = NULL;
}

static void
node_dealloc(PyObject *self)
{
    Node *node = (Node *)self;
    if (Py_IS_TYPE(self, Tracked)) {
        PyObject_GC_UnTrack(self);
    }
    if (open_graves > 0 && graves.is_open) {
        node->next = graves.first;
        graves.first = node;
        return;
    }
    node->next = NULL;
    for (Node *dying = node; dying != NULL;) {
        node = dying;
        dying = node->next;
        if (node->shape & MANY) {
            for (Py_ssize_t i = 0; i < node->many->operands; i++) {
                let_go(node->many->operand[i], &dying);
            }
            PyMem_Free(node->many);
        }
        let_go(node->a, &dying);
        let_go(node->b, &dying);
        let_go(node->label, &dying);
        let_go(node->op, &dying);
        alive--;
        PyTypeObject *type = Py_TYPE(node);
        if (type == Value && free_count < FREE_NODES && !memory_is_traced()) {
            node->next = free_nodes;
            free_nodes = node;
            free_count++;
        } else {
            type->tp_free(node);
            Py_DECREF(type);
        }
    }
}

/* For the twin, and for subclasses with attributes: plain nodes refer to nothing that is tracked.
   (Rows of the table stay there, whatever they refer to.) */
static int
node_traverse(PyObject *self, visitproc visit, void *arg)
{
    Node *node = (Node *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(node->a);
    Py_VISIT(node->b);
    if (node->shape & MANY) {
        for (Py_ssize_t i = 0; i < node->many->operands; i++) {
            Py_VISIT(node->many->operand[i]);
        }
    }
    return 0;
}

/* Cycles lead through an attribute, which the collector clears: this is for its completeness. */
static int
tracked_clear(PyObject *self)
{
    drop_operands((Node *)self);
    return 0;
}

/* --- making nodes ----------------------------------------------------------------------------- */

/* What a trace has for an operand: a new reference; NULL, with or without an exception, where it
   is not told here. `is_plain` is set where the operand is a Value and no more. */
static PyObject *
key_of(PyObject *operand, PyObject *keys, int *is_plain)
{
    if (PyFloat_CheckExact(operand)) {
        double x = PyFloat_AS_DOUBLE(operand);
        return x == x ? PyBytes_FromStringAndSize((const char *)&x, sizeof x) : NULL;
    }
    *is_plain |= Py_IS_TYPE(operand, Value) || Py_IS_TYPE(operand, Tracked);
    PyObject *id = PyLong_FromVoidPtr(operand);
    PyObject *key = id == NULL ? NULL : PyDict_GetItemWithError(keys, id);
    Py_XDECREF(id);
    return Py_XNewRef(key);
}

/* The key of a node, from those of its operands; NULL as above. */
static PyObject *
key_of_node(Node *node, PyObject *keys)
{
    int is_many = node->shape & MANY, is_plain = 0;
    Py_ssize_t count = is_many ? node->many->operands : (node->a != NULL) + (node->b != NULL);
    PyObject *found = node->op == NULL ? NULL : PyTuple_New(count);
    for (Py_ssize_t i = 0; found != NULL && i < count; i++) {
        PyObject *operand = is_many ? node->many->operand[i] : i ? node->b : node->a;
        PyObject *key = key_of(operand, keys, &is_plain);
        if (key == NULL) {
            Py_CLEAR(found);
        } else {
            PyTuple_SET_ITEM(found, i, key);
        }
    }
    if (found != NULL && !is_plain) {
        Py_CLEAR(found);
    }
    PyObject *whole = found == NULL ? NULL : PyTuple_Pack(2, node->op, found);
    Py_XDECREF(found);
    Py_hash_t hash = whole == NULL ? -1 : PyObject_Hash(whole);
    Py_XDECREF(whole);
    return hash == -1 ? NULL : PyLong_FromSsize_t(hash);
}

/* Do for a node what `Trace.made` does, if that is the usual: its operands have keys, and a trace
   is the only mode in force here. 1 if it was done, -1 with an exception. */
static int
traced(Node *node)
{
    PyObject *block;
    int watched = has_blocks(watches, NULL);
    int silenced = watched ? watched : has_blocks(silences, NULL);
    if (silenced) {
        return silenced < 0 ? -1 : 0;
    }
    int is_traced = has_blocks(traces, &block);
    if (is_traced <= 0) {
        return is_traced;
    }
    PyObject *is_open = PyObject_GetAttr(block, str_is_open);
    PyObject *trace = is_open == Py_True ? PyObject_GetAttr(block, str_entry) : NULL;
    PyObject *keys = trace == NULL ? NULL : PyObject_GetAttr(trace, str_keys);
    PyObject *kept = keys == NULL ? NULL : PyObject_GetAttr(trace, str_kept);
    PyObject *key = NULL, *id = NULL;
    int done = 0;
    if (kept == NULL) { /* it is another kind of trace */
        if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
        }
    } else if (PyDict_CheckExact(keys) && PyList_CheckExact(kept)
               && (key = key_of_node(node, keys)) != NULL
               && (id = PyLong_FromVoidPtr(node)) != NULL) {
        done = PyList_Append(kept, (PyObject *)node) == 0 && PyDict_SetItem(keys, id, key) == 0;
    }
    Py_XDECREF(id);
    Py_XDECREF(key);
    Py_XDECREF(kept);
    Py_XDECREF(keys);
    Py_XDECREF(trace);
    Py_XDECREF(is_open);
    Py_DECREF(block);
    return PyErr_Occurred() ? -1 : done;
}

/* What the modes that are in force here make of a new node, whose reference is taken over. */
static PyObject *
under_modes(Node *node)
{
    PyObject *made = (PyObject *)node;
    int followed = is_followed(), done = followed > 0 ? traced(node) : followed;
    if (done) {
        if (done < 0) {
            Py_CLEAR(made);
        }
        return made;
    }
    if (followed) {
        made = PyObject_CallMethod(modes, "made", "O", node);
        Py_DECREF(node);
        if (made == NULL) {
            return NULL;
        }
    }
    if (!is_value(made)) {
        PyErr_Format(PyExc_TypeError, "a watch gave no Value: %R", made);
        Py_DECREF(made);
        return NULL;
    }
    int silent = is_silent();
    if (silent < 0) {
        Py_DECREF(made);
        return NULL;
    }
    if (silent) {
        drop_operands((Node *)made);
    }
    return made;
}

/* One operand of an operator, with a reference of its own, and its number. */
typedef struct {
    PyObject *object; /* Node or float */
    double x;
    int is_parent, is_tracked;
} Operand;

static const Operand NOTHING = {NULL, 0.0, 0, 0};

/* A node of two operands at most, whose references are taken over; the local derivatives count by
   those that are parents. */
static inline Node *
node_of_two(double data, PyObject *op, const Operand *a, double da, const Operand *b, double db)
{
    int tracked = a->is_tracked || b->is_tracked;
    Node *node = node_alloc(data, tracked);
    if (node == NULL) {
        Py_XDECREF(a->object);
        Py_XDECREF(b->object);
        return NULL;
    }
    node->op = Py_XNewRef(op);
    node->a = a->object;
    node->b = b->object;
    node->da = da;
    node->db = db;
    node->shape = (uint8_t)((a->is_parent ? A_IS_PARENT : 0) | (b->is_parent ? B_IS_PARENT : 0));
    if (tracked) {
        PyObject_GC_Track(node);
    }
    return node;
}

/* The same, as the modes that are in force have it. */
static inline PyObject *
new_node(double data, PyObject *op, const Operand *a, double da, const Operand *b, double db)
{
    Node *node = node_of_two(data, op, a, da, b, db);
    return node != NULL && a_mode_is_open() ? under_modes(node) : (PyObject *)node;
}

/* Room for so many operands and parents, none of them there yet; NULL with MemoryError. */
static Many *
many_alloc(Py_ssize_t operands, Py_ssize_t parents)
{
    size_t of_parents = parents == operands ? 0 : (size_t)parents;
    size_t size = offsetof(Many, operand) + (size_t)operands * sizeof(PyObject *)
                  + of_parents * sizeof(Node *) + (size_t)parents * sizeof(double);
    Many *many = PyMem_Malloc(size < sizeof(Many) ? sizeof(Many) : size);
    if (many == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    many->operands = operands;
    many->parents = parents;
    many->parent = (Node **)(many->operand + (of_parents ? operands : 0));
    many->local = (double *)(many->operand + operands + of_parents);
    return many;
}

/* A node of many operands, which gets references to them. */
static Node *
node_of_many(double data, PyObject *op, Many *many, int tracked)
{
    Node *node = node_alloc(data, tracked);
    if (node == NULL) {
        PyMem_Free(many);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < many->operands; i++) {
        Py_INCREF(many->operand[i]);
    }
    node->op = Py_NewRef(op);
    node->many = many;
    node->shape = MANY;
    if (tracked) {
        PyObject_GC_Track(node);
    }
    return node;
}

/* `Value.__assemble__`: a node, whatever the mode. None stands beside constants and where nothing
   flows. What comes from pickles is looked at. */
static Node *
assemble(double data, PyObject *op, PyObject *operands, PyObject *partials)
{
    Py_ssize_t n = PyTuple_GET_SIZE(operands), parents = 0;
    int tracked = 0;
    Operand two[2] = {NOTHING, NOTHING};
    double local[2] = {0.0, 0.0};
    if (PyTuple_GET_SIZE(partials) != n) {
        PyErr_SetString(PyExc_ValueError, "a node needs a partial, or None, beside each operand");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *operand = PyTuple_GET_ITEM(operands, i), *d = PyTuple_GET_ITEM(partials, i);
        int of_value = is_value(operand);
        if (!of_value && !PyFloat_CheckExact(operand)) {
            PyErr_Format(PyExc_TypeError, "an operand is a Value or a float, not %R", operand);
            return NULL;
        }
        if (d != Py_None && !(of_value && PyFloat_Check(d))) {
            PyErr_Format(PyExc_TypeError, "beside %R, a partial cannot be %R", operand, d);
            return NULL;
        }
        tracked |= of_value && is_tracked(operand);
        parents += d != Py_None;
    }
    Many *many = n > 2 ? many_alloc(n, parents) : NULL;
    if (n > 2 && many == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0, k = 0; i < n; i++) {
        PyObject *operand = PyTuple_GET_ITEM(operands, i), *d = PyTuple_GET_ITEM(partials, i);
        double slope = d == Py_None ? 0.0 : PyFloat_AS_DOUBLE(d);
        if (many == NULL) {
            two[i] = (Operand){Py_NewRef(operand), 0.0, d != Py_None, is_tracked(operand)};
            local[i] = slope;
            continue;
        }
        many->operand[i] = operand;
        if (d != Py_None) {
            many->parent[k] = (Node *)operand;
            many->local[k++] = slope;
        }
    }
    return many != NULL ? node_of_many(data, op, many, tracked)
                        : node_of_two(data, op == Py_None ? NULL : op, &two[0], local[0], &two[1],
                                      local[1]);
}

/* `engine.node_as(kind, node)`: the same node as one of a subclass. The other one, which nobody has
   yet, is a leaf then. */
static PyObject *
node_as(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyType_Check(args[0]) || !PyType_IsSubtype((PyTypeObject *)args[0], Value)
        || !is_value(args[1])) {
        PyErr_SetString(PyExc_TypeError, "node_as takes a subclass of Value and a Value");
        return NULL;
    }
    PyTypeObject *kind = (PyTypeObject *)args[0];
    Node *node = (Node *)args[1];
    if (is_tracked(args[1]) && !PyType_IS_GC(kind)) {
        PyErr_Format(PyExc_TypeError, "nodes of %R cannot have tracked operands", kind);
        return NULL;
    }
    Node *out = (Node *)kind->tp_alloc(kind, 0);
    if (out == NULL) {
        return NULL;
    }
    alive++;
    memcpy(&out->data, &node->data, sizeof(Node) - offsetof(Node, data));
    node->label = node->op = node->a = node->b = NULL;
    node->shape = 0;
    return (PyObject *)out;
}

static int sweeps; /* how many are on their way, with borrowed references to the nodes of a graph */

/* `Value.__init__`, of a label that is a text, or NULL. */
static int
construct(Node *self, PyObject *data, PyObject *label)
{
    double x;
    if (self->op != NULL && sweeps > 0) {
        PyErr_SetString(PyExc_RuntimeError, "a node cannot be made anew while graphs are swept");
        return -1;
    }
    if (to_double(data, &x) < 0) {
        return -1;
    }
    drop_operands(self);
    self->shape = 0;
    self->data = x;
    self->grad = 0.0;
    Py_XSETREF(self->label, Py_XNewRef(label));
    return 0;
}

/* The same, of arguments that are more than data and a text: of the Value that engine.py makes of
   them, whose reference is taken over, or where it refuses them, NULL. */
static int
construct_like(Node *self, PyObject *made)
{
    PyObject *data = made == NULL ? NULL : PyObject_GetAttrString(made, "_data");
    PyObject *label = data == NULL ? NULL : PyObject_GetAttrString(made, "_label");
    int result = label == NULL ? -1 : construct(self, data, label);
    Py_XDECREF(made);
    Py_XDECREF(data);
    Py_XDECREF(label);
    return result;
}

/* Whether these are data and, if there are two, a text. */
static inline int
are_usual(PyObject *const *args, Py_ssize_t count)
{
    return count == 1 || (count == 2 && PyUnicode_CheckExact(args[1]));
}

/* A subclass's own constructor may take what it likes. */
static PyObject *
value_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(keywords))
{
    if (type == Value) {
        return (PyObject *)node_alloc(Py_NAN, 0);
    }
    Node *node = (Node *)type->tp_alloc(type, 0);
    if (node != NULL) {
        node->shape = BLANK;
        alive++;
    }
    return (PyObject *)node;
}

static int
value_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    PyObject **items = ((PyTupleObject *)args)->ob_item;
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    if ((keywords == NULL || PyDict_GET_SIZE(keywords) == 0) && are_usual(items, count)) {
        return construct((Node *)self, items[0], count > 1 ? items[1] : NULL);
    }
    return construct_like((Node *)self, PyObject_Call(in_python, args, keywords));
}

/* Value(data, label) and Value(data, label=label), without a tuple of arguments. */
static PyObject *
value_vectorcall(PyObject *Py_UNUSED(type), PyObject *const *args, size_t count, PyObject *names)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    Py_ssize_t all = PyVectorcall_NARGS(count) + named;
    int is_usual = named == 0 || (named == 1 && all == 2 && PyTuple_GET_ITEM(names, 0) == str_label);
    Node *node = node_alloc(0.0, 0);
    if (node == NULL) {
        return NULL;
    }
    int result = is_usual && are_usual(args, all)
                     ? construct(node, args[0], all > 1 ? args[1] : NULL)
                     : construct_like(node, PyObject_Vectorcall(in_python, args, count, names));
    if (result < 0) {
        Py_CLEAR(node);
    }
    return (PyObject *)node;
}

/* Python makes every class a tracked one. Subclasses without attributes cannot close a cycle, and
   nodes change to them and back (`node.__class__ = ...`): they are laid out as Value is. */
static PyObject *
value_init_subclass(PyObject *self, PyObject *args, PyObject *keywords)
{
    PyTypeObject *type = (PyTypeObject *)self;
    PyObject *parent = PyObject_CallFunctionObjArgs((PyObject *)&PySuper_Type, Value, self, NULL);
    PyObject *init = parent == NULL ? NULL : PyObject_GetAttrString(parent, "__init_subclass__");
    PyObject *result = init == NULL ? NULL : PyObject_Call(init, args, keywords);
    Py_XDECREF(parent);
    Py_XDECREF(init);
    if (result != NULL && !PyType_IS_GC(type->tp_base)
        && type->tp_basicsize == Value->tp_basicsize
        && type->tp_dictoffset == 0 && type->tp_weaklistoffset == 0) {
        type->tp_flags &= ~Py_TPFLAGS_HAVE_GC;
        type->tp_traverse = NULL;
        type->tp_clear = NULL;
        type->tp_free = Value->tp_free;
    }
    return result;
}

/* --- its attributes --------------------------------------------------------------------------- */

static PyObject *
get_float(Node *self, double *slot)
{
    if (self->shape & BLANK) {
        refuse_blank(self);
        return NULL;
    }
    if (a_mode_is_open() && touched(self) < 0) {
        return NULL;
    }
    return PyFloat_FromDouble(*slot);
}

static int
refuse_deletion(PyObject *value, const char *name)
{
    if (value == NULL) {
        PyErr_Format(PyExc_AttributeError, "property '%s' of 'Value' object has no deleter", name);
    }
    return value == NULL ? -1 : 0;
}

static PyObject *
get_data(Node *self, void *Py_UNUSED(closure))
{
    return get_float(self, &self->data);
}

static int
set_data(Node *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value, "data") < 0 || (a_mode_is_open() && touched(self) < 0)) {
        return -1;
    }
    return to_double(value, &self->data);
}

static PyObject *
get_grad(Node *self, void *Py_UNUSED(closure))
{
    return get_float(self, &self->grad);
}

static int
set_grad(Node *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value, "grad") < 0
        || (a_mode_is_open() && told(PyObject_CallMethod(modes, "land", "((O))", self)) < 0)) {
        return -1;
    }
    return to_double(value, &self->grad);
}

static PyObject *
get_label(Node *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->label == NULL ? str_empty : self->label);
}

/* What is no plain text is not kept: nodes are untracked, and it might close a cycle. */
static int
set_label(Node *self, PyObject *label, void *Py_UNUSED(closure))
{
    if (refuse_deletion(label, "label") < 0) {
        return -1;
    }
    label = PyUnicode_CheckExact(label) ? Py_NewRef(label) : PyObject_CallOneArg(text, label);
    if (label == NULL) {
        return -1;
    }
    Py_XSETREF(self->label, label);
    return 0;
}

/* For the others, as Python says it; the closure is the attribute's name. */
static int
refuse_setting(Node *Py_UNUSED(self), PyObject *value, void *closure)
{
    if (refuse_deletion(value, closure) == 0) {
        PyErr_Format(PyExc_AttributeError, "property '%s' of 'Value' object has no setter",
                     (const char *)closure);
    }
    return -1;
}

static PyObject *
get_op(Node *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->op == NULL ? Py_None : self->op);
}

static PyObject *
get_operands(Node *self, void *Py_UNUSED(closure))
{
    if (self->shape & MANY) {
        return tuple_of(self->many->operand, self->many->operands);
    }
    PyObject *two[2] = {self->a, self->b};
    return tuple_of(two, self->op == NULL || self->a == NULL ? 0 : self->b == NULL ? 1 : 2);
}

static PyObject *
get_parents(Node *self, void *Py_UNUSED(closure))
{
    if (self->shape & MANY) {
        return tuple_of((PyObject **)self->many->parent, self->many->parents);
    }
    PyObject *two[2] = {self->shape & A_IS_PARENT ? self->a : self->b, self->b};
    return tuple_of(two, !!(self->shape & A_IS_PARENT) + !!(self->shape & B_IS_PARENT));
}

/* `slopes_of(node)`. */
static PyObject *
slopes(Node *self)
{
    double two[2] = {self->shape & A_IS_PARENT ? self->da : self->db, self->db};
    int is_many = self->shape & MANY;
    const double *local = is_many ? self->many->local : two;
    Py_ssize_t n = is_many ? self->many->parents
                           : !!(self->shape & A_IS_PARENT) + !!(self->shape & B_IS_PARENT);
    PyObject *result = PyTuple_New(n);
    for (Py_ssize_t i = 0; result != NULL && i < n; i++) {
        PyObject *d = PyFloat_FromDouble(local[i]);
        if (d == NULL) {
            Py_CLEAR(result);
        } else {
            PyTuple_SET_ITEM(result, i, d);
        }
    }
    return result;
}

static PyObject *
get_local_grads(Node *self, void *Py_UNUSED(closure))
{
    return a_mode_is_open() && touched(self) < 0 ? NULL : slopes(self);
}

/* Attributes of one's own are refused with a word on what to do instead, as in slots.py. */
static int
value_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    if (!Py_IS_TYPE(self, Value) && !Py_IS_TYPE(self, Tracked)) {
        return PyObject_GenericSetAttr(self, name, value);
    }
    if (name == str_data || name == str_grad) { /* in half the time */
        return (name == str_data ? set_data : set_grad)((Node *)self, value, NULL);
    }
    if (!PyObject_HasAttr((PyObject *)Value, name)) {
        PyErr_Format(PyExc_AttributeError,
                     "'Value' object has no attribute '%U', and takes none: give attributes to a "
                     "subclass of Value, or a label to this one",
                     name);
        return -1;
    }
    return PyObject_GenericSetAttr(self, name, value);
}

/* --- its operators ---------------------------------------------------------------------------- */

/* What stands beside a Value: 1 if it is one or a number, 0 if `number_in` refuses it, -1 with an
   exception. */
static int
take_other(PyObject *p, Operand *out)
{
    if (is_value(p)) {
        if (((Node *)p)->shape & BLANK) {
            return refuse_blank((Node *)p);
        }
        *out = (Operand){Py_NewRef(p), ((Node *)p)->data, 1, is_tracked(p)};
        return 1;
    }
    PyObject *c = PyObject_CallOneArg(number_in, p);
    if (c == NULL || !PyFloat_Check(c)) {
        Py_XDECREF(c);
        return c == NULL ? -1 : 0;
    }
    *out = (Operand){c, PyFloat_AS_DOUBLE(c), 0, 0};
    return 1;
}

static inline int
take(PyObject *p, Operand *out)
{
    if (Py_IS_TYPE(p, Value)) {
        *out = (Operand){Py_NewRef(p), ((Node *)p)->data, 1, 0};
        return 1;
    }
    if (PyFloat_CheckExact(p)) {
        *out = (Operand){Py_NewRef(p), PyFloat_AS_DOUBLE(p), 0, 0};
        return 1;
    }
    if (PyLong_CheckExact(p)) {
        double x = PyLong_AsDouble(p);
        if (x != -1.0 || !PyErr_Occurred()) {
            *out = (Operand){PyFloat_FromDouble(x), x, 0, 0};
            return out->object == NULL ? -1 : 1;
        }
        PyErr_Clear(); /* it is too large, which number_in says in words */
    }
    return take_other(p, out);
}

/* Both operands, or neither of them. */
static inline int
take_both(PyObject *p, PyObject *q, Operand *a, Operand *b)
{
    int taken = take(p, a);
    if (taken > 0 && (taken = take(q, b)) <= 0) {
        Py_DECREF(a->object);
    }
    return taken;
}

static PyObject *
call_row(PyObject *row, PyObject *p, PyObject *q)
{
    PyObject *args[2] = {p, q};
    return PyObject_Vectorcall(row, args, 2, NULL);
}

/* The operands a and b; where one is no number, the row refuses it, or knows what to do. */
#define TAKE_BOTH(row)                                                                             \
    Operand a, b;                                                                                  \
    int taken = take_both(p, q, &a, &b);                                                           \
    if (taken <= 0) {                                                                              \
        return taken < 0 ? NULL : call_row(row, p, q);                                             \
    }

static PyObject *
value_add(PyObject *p, PyObject *q)
{
    TAKE_BOTH(row_add)
    return new_node(a.x + b.x, row_add, &a, 1.0, &b, 1.0);
}

static PyObject *
value_subtract(PyObject *p, PyObject *q)
{
    TAKE_BOTH(row_sub)
    return new_node(a.x - b.x, row_sub, &a, 1.0, &b, -1.0);
}

static PyObject *
value_multiply(PyObject *p, PyObject *q)
{
    TAKE_BOTH(row_mul)
    return new_node(a.x * b.x, row_mul, &a, b.x, &b, a.x);
}

static PyObject *
value_true_divide(PyObject *p, PyObject *q)
{
    TAKE_BOTH(row_div)
    if (b.x == 0.0) { /* which the row refuses, and names the culprit */
        Py_DECREF(a.object);
        Py_DECREF(b.object);
        return call_row(row_div, p, q);
    }
    double out = a.x / b.x;
    return new_node(out, row_div, &a, 1.0 / b.x, &b, -(out / b.x));
}

/* A Value to the power of a number, where all is finite: anything else is the row's. */
static PyObject *
value_power(PyObject *p, PyObject *q, PyObject *modulus)
{
    if (modulus != Py_None) {
        PyErr_SetString(PyExc_TypeError,
                        "Value.__pow__() takes 2 positional arguments but 3 were given");
        return NULL;
    }
    if (!is_value(p) || is_value(q)) {
        return call_row(row_power, p, q);
    }
    TAKE_BOTH(row_power)
    if (isfinite(a.x) && isfinite(b.x)) {
        double out = pow(a.x, b.x), lower = b.x == 0.0 ? 0.0 : pow(a.x, b.x - 1.0);
        if (isfinite(out) && isfinite(lower)) {
            double slope = b.x == 0.0 ? 0.0 : b.x * lower;
            return new_node(out, row_power, &a, slope, &b, 0.0);
        }
    }
    Py_DECREF(a.object);
    Py_DECREF(b.object);
    return call_row(row_power, p, q);
}

static PyObject *
value_negative(PyObject *p)
{
    Operand a;
    return take(p, &a) <= 0 ? NULL : new_node(-a.x, row_neg, &a, -1.0, &NOTHING, 0.0);
}

/* Of two plain numbers; a trace, and all else, is left to Python. `==` is identity. */
static PyObject *
value_richcompare(PyObject *p, PyObject *q, int sign)
{
    static const char *names[] = {"__lt__", "__le__", "__eq__", "__ne__", "__gt__", "__ge__"};
    if ((sign == Py_EQ || sign == Py_NE) && (p == q || !PyObject_CheckBuffer(q))) {
        return PyBaseObject_Type.tp_richcompare(p, q, sign);
    }
    Operand a, b;
    if (sign == Py_EQ || sign == Py_NE || !Py_IS_TYPE(p, Value) || a_mode_is_open() || take_both(p, q, &a, &b) <= 0) {
        PyErr_Clear();
        return PyObject_CallMethod(in_python, names[sign], "OO", p, q);
    }
    Py_DECREF(a.object);
    Py_DECREF(b.object);
    Py_RETURN_RICHCOMPARE(a.x, b.x, sign);
}

/* --- rows applied to it ----------------------------------------------------------------------- */

/* The results of `f` for each item: a list, or NULL with an exception. */
static PyObject *
list_of(PyObject *items, PyObject *(*f)(PyObject *))
{
    PyObject *fast = PySequence_Fast(items, "an iterable is needed");
    PyObject *result = fast == NULL ? NULL : PyList_New(PySequence_Fast_GET_SIZE(fast));
    for (Py_ssize_t i = 0; result != NULL && i < PyList_GET_SIZE(result); i++) {
        /* What f calls may shorten a list. */
        PyObject *item = i < PySequence_Fast_GET_SIZE(fast) ? PySequence_Fast_GET_ITEM(fast, i)
                                                            : Py_None;
        Py_INCREF(item);
        PyObject *made = f(item);
        Py_DECREF(item);
        if (made == NULL) {
            Py_CLEAR(result);
        } else {
            PyList_SET_ITEM(result, i, made);
        }
    }
    Py_XDECREF(fast);
    return result;
}

static PyObject *
number_of(PyObject *x)
{
    if (PyFloat_CheckExact(x)) {
        return Py_NewRef(x);
    }
    if (!is_value(x)) {
        return PyObject_GetAttrString(x, "_data"); /* which says that there is none */
    }
    if (((Node *)x)->shape & BLANK) {
        refuse_blank((Node *)x);
        return NULL;
    }
    return PyFloat_FromDouble(((Node *)x)->data);
}

static PyObject *
numbers_of(PyObject *Py_UNUSED(module), PyObject *operands)
{
    return land(operands) < 0 ? NULL : list_of(operands, number_of);
}

/* What becomes an operand: a Value as it is, a number as a float; NULL with an exception. */
static PyObject *
operand_of(PyObject *x)
{
    return is_value(x) ? Py_NewRef(x) : as_number(x);
}

/* The node of an op applied to operands at xs, where its value is `data`. */
static PyObject *
applied(PyObject *op, PyObject *operands, PyObject *xs, PyObject *data)
{
    int silent = a_mode_is_open() ? is_silent() : 0;
    if (silent < 0) {
        return NULL;
    }
    Node *out = NULL;
    PyObject *partials;
    if (silent) { /* they may fail, and would be dropped */
        Py_ssize_t n = PyTuple_GET_SIZE(operands);
        partials = PyTuple_New(n);
        for (Py_ssize_t i = 0; partials != NULL && i < n; i++) {
            PyTuple_SET_ITEM(partials, i, Py_NewRef(Py_None));
        }
    } else {
        PyObject *args[4] = {op, operands, xs, data};
        partials = PyObject_VectorcallMethod(str_partials_at, args, 4, NULL);
        if (partials != NULL) {
            Py_SETREF(partials, PySequence_Tuple(partials));
        }
    }
    if (partials != NULL) {
        out = assemble(PyFloat_AS_DOUBLE(data), op, operands, partials);
        Py_DECREF(partials);
    }
    return out != NULL && a_mode_is_open() ? under_modes(out) : (PyObject *)out;
}

/* `Value.__apply_op__(op, args)`. */
static PyObject *
apply_op(PyObject *Py_UNUSED(none), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "__apply_op__ takes an op and its arguments");
        return NULL;
    }
    PyObject *op = args[0], *result = NULL;
    PyObject *listed = list_of(args[1], operand_of);
    PyObject *operands = listed == NULL ? NULL : PyList_AsTuple(listed);
    PyObject *xs = operands == NULL ? NULL : numbers_of(NULL, operands);
    PyObject *call[2] = {op, xs};
    PyObject *data = xs == NULL ? NULL : PyObject_VectorcallMethod(str_evaluate, call, 2, NULL);
    if (data != NULL && PyFloat_Check(data)) {
        result = applied(op, operands, xs, data);
    } else if (data != NULL) {
        PyErr_Format(PyExc_TypeError, "%R gave no float", op);
    } else if (xs != NULL && PyErr_ExceptionMatches(DomainError)) {
        PyErr_Clear(); /* which Python says with the labels */
        result = PyObject_CallMethod(in_python, "__apply_op__", "OO", op, operands);
    }
    Py_XDECREF(listed);
    Py_XDECREF(operands);
    Py_XDECREF(xs);
    Py_XDECREF(data);
    return result;
}

/* `op.partials[0](x, out)`. */
static PyObject *
slope_at(PyObject *op, PyObject *x, PyObject *out)
{
    PyObject *partials = PyObject_GetAttr(op, str_partials);
    PyObject *partial = partials == NULL ? NULL : PySequence_GetItem(partials, 0);
    PyObject *d = partial == NULL ? NULL : call_row(partial, x, out);
    Py_XDECREF(partials);
    Py_XDECREF(partial);
    return d;
}

/* `Value.__apply_unary__(op)`: op(self) for an operation of one argument. */
static PyObject *
apply_unary(PyObject *self, PyObject *op)
{
    Operand a;
    if (take(self, &a) <= 0) {
        return NULL;
    }
    PyObject *compute = PyObject_GetAttr(op, str_compute), *x = PyFloat_FromDouble(a.x);
    PyObject *out = compute == NULL || x == NULL ? NULL : PyObject_CallOneArg(compute, x);
    PyObject *d = out == NULL ? NULL : slope_at(op, x, out), *result = NULL;
    if (d != NULL && PyFloat_CheckExact(out) && PyFloat_CheckExact(d)) {
        result = new_node(PyFloat_AS_DOUBLE(out), op, &a, PyFloat_AS_DOUBLE(d), &NOTHING, 0.0);
    } else {
        Py_DECREF(a.object);
        if (d != NULL || PyErr_ExceptionMatches(PyExc_ArithmeticError)
            || PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            result = PyObject_CallOneArg(op, self);
        }
    }
    Py_XDECREF(compute);
    Py_XDECREF(x);
    Py_XDECREF(out);
    Py_XDECREF(d);
    return result;
}

/* `Value.__assemble__(data, op, operands, partials)`. */
static PyObject *
value_assemble(PyObject *Py_UNUSED(none), PyObject *const *args, Py_ssize_t count)
{
    double data;
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "__assemble__ takes data, op, operands and partials");
        return NULL;
    }
    if (to_double(args[0], &data) < 0) {
        return NULL;
    }
    PyObject *operands = PySequence_Tuple(args[2]);
    PyObject *partials = operands == NULL ? NULL : PySequence_Tuple(args[3]);
    Node *out = partials == NULL ? NULL : assemble(data, args[1], operands, partials);
    Py_XDECREF(operands);
    Py_XDECREF(partials);
    return (PyObject *)out;
}

/* --- the order of a graph --------------------------------------------------------------------- */

enum { STRIDE = 4096 }; /* so many nodes lie between two looks for Ctrl-C */

static uint64_t orders; /* how many there were: the number of the last one marks what it met */

typedef struct {
    Node *node;
    Py_ssize_t next; /* the place of the parent to go to next */
} Step;

typedef struct {
    Node **node; /* parents first; borrowed, as the roots hold them */
    Py_ssize_t count, room;
    Step *stack; /* leads from a root to the node that is looked at */
    Py_ssize_t depth, height;
    uint64_t mark;
    PyObject *seen; /* a set that marks the nodes instead, or NULL */
    int untaken;
} Order;

static void
order_free(Order *order)
{
    PyMem_RawFree(order->node);
    PyMem_RawFree(order->stack);
    order->node = NULL;
    order->stack = NULL;
}

/* Room for one more in an array: it doubles. 0, or -1 with MemoryError. */
static int
grow(void **array, Py_ssize_t *room, size_t size)
{
    Py_ssize_t more = *room == 0 ? 64 : 2 * *room;
    void *larger = PyMem_RawRealloc(*array, (size_t)more * size);
    if (larger == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *array = larger;
    *room = more;
    return 0;
}

/* Look for Ctrl-C: -1 with its exception. A handler may have swept a graph, after which marks and
   places are not those of this order: then 1. */
static int
interrupted(const Order *order)
{
    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    return order->seen == NULL && order->mark != orders;
}

/* Mark the node: 1 if it was unmarked, 0 if not, -1 with an exception. */
static inline int
met_first(Order *order, Node *node)
{
    if (order->seen == NULL) {
        int first = node->mark != order->mark;
        node->mark = order->mark;
        return first;
    }
    int known = PySet_Contains(order->seen, (PyObject *)node);
    if (known < 0 || (!known && PySet_Add(order->seen, (PyObject *)node) < 0)) {
        return -1;
    }
    return !known;
}

static inline int
emit(Order *order, Node *node)
{
    if (order->count == order->room) {
        if (grow((void **)&order->node, &order->room, sizeof(Node *)) < 0) {
            return -1;
        }
        if ((uint64_t)order->room > UINT32_MAX) { /* a graph of 400 GB */
            PyErr_NoMemory();
            return -1;
        }
    }
    node->place = (uint32_t)order->count;
    order->node[order->count++] = node;
    return 0;
}

static inline int
push(Order *order, Node *node)
{
    if (order->depth == order->height
        && grow((void **)&order->stack, &order->height, sizeof(Step)) < 0) {
        return -1;
    }
    order->stack[order->depth++] = (Step){node, 0};
    return 0;
}

/* The next parent after the step's place, or NULL after the last one. With `untaken` there are also
   operands that nothing flows to. */
static inline Node *
next_parent(Step *step, int untaken)
{
    Node *node = step->node;
    if (node->shape & MANY) {
        Many *many = node->many;
        if (!untaken || many->parents == many->operands) {
            return step->next < many->parents ? many->parent[step->next++] : NULL;
        }
        while (step->next < many->operands) {
            PyObject *operand = many->operand[step->next++];
            if (!PyFloat_CheckExact(operand)) {
                return (Node *)operand;
            }
        }
        return NULL;
    }
    if (step->next == 0) {
        step->next = 1;
        if (node->shape & A_IS_PARENT) {
            return (Node *)node->a;
        }
    }
    if (step->next == 1) {
        step->next = 2;
        if (node->shape & B_IS_PARENT) {
            return (Node *)node->b;
        }
    }
    return NULL;
}

/* What the root depends on, depth first: 0, or 1 to start again, or -1 with an exception. */
static int
visit(Order *order, Node *root)
{
    Py_ssize_t looks = 0;
    int first = met_first(order, root);
    if (first <= 0) {
        return first;
    }
    order->depth = 0;
    if (push(order, root) < 0) {
        return -1;
    }
    while (order->depth > 0) {
        Step *step = &order->stack[order->depth - 1];
        Node *parent;
        while ((parent = next_parent(step, order->untaken)) != NULL) {
            if ((first = met_first(order, parent)) < 0) {
                return -1;
            }
            if (!first) {
                continue;
            }
            if (parent->shape & (A_IS_PARENT | B_IS_PARENT | MANY)) {
                break;
            }
            if (emit(order, parent) < 0) {
                return -1;
            }
        }
        if (parent != NULL) {
            if (push(order, parent) < 0) {
                return -1;
            }
        } else {
            if (emit(order, step->node) < 0) {
                return -1;
            }
            order->depth--;
        }
        if (++looks % STRIDE == 0) {
            int stop = interrupted(order);
            if (stop) {
                return stop;
            }
        }
    }
    return 0;
}

/* Fill `order`, whose `seen` and `untaken` are set. 0, or -1 with an exception; then it is free. */
static int
order_of(Order *order, PyObject *const *roots, Py_ssize_t n)
{
    int again;
    order->node = NULL;
    order->stack = NULL;
    order->room = order->height = 0;
    do {
        again = 0;
        order->count = 0;
        order->mark = ++orders;
        for (Py_ssize_t i = 0; i < n && again == 0; i++) {
            if (!is_value(roots[i])) {
                PyObject *name = PyType_GetName(Py_TYPE(roots[i]));
                if (name != NULL) {
                    PyErr_Format(OperandError, "a Value is needed as root of a graph, got %U", name);
                    Py_DECREF(name);
                }
                again = -1;
            } else if (((Node *)roots[i])->shape & BLANK) {
                again = refuse_blank((Node *)roots[i]);
            } else {
                again = visit(order, (Node *)roots[i]);
            }
        }
    } while (again > 0);
    if (again < 0) {
        order_free(order);
    }
    return again;
}

static PyObject *
list_of_order(PyObject *const *roots, Py_ssize_t n, PyObject *seen, int untaken)
{
    Order order = {.seen = seen, .untaken = untaken};
    PyObject *result = NULL;
    if (seen != NULL && !PySet_Check(seen)) {
        PyErr_Format(PyExc_TypeError, "seen is a set, not %R", seen);
        return NULL;
    }
    sweeps++;
    if (order_of(&order, roots, n) == 0) {
        result = PyList_New(order.count);
        for (Py_ssize_t i = 0; result != NULL && i < order.count; i++) {
            PyList_SET_ITEM(result, i, Py_NewRef((PyObject *)order.node[i]));
        }
        order_free(&order);
    }
    sweeps--;
    return result;
}

/* `topological_order(*roots, seen=None, untaken=False)`. */
static PyObject *
topological_order(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count,
                  PyObject *names)
{
    PyObject *seen = Py_None, *untaken = Py_False;
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int is_seen = PyUnicode_CompareWithASCIIString(name, "seen") == 0;
        if (!is_seen && PyUnicode_CompareWithASCIIString(name, "untaken") != 0) {
            PyErr_Format(PyExc_TypeError,
                         "topological_order() got an unexpected keyword argument '%U'", name);
            return NULL;
        }
        *(is_seen ? &seen : &untaken) = args[count + i];
    }
    int is_untaken = PyObject_IsTrue(untaken);
    return is_untaken < 0
               ? NULL
               : list_of_order(args, count, seen == Py_None ? NULL : seen, is_untaken);
}

/* `Value.__order__(seen)`. */
static PyObject *
value_order(PyObject *self, PyObject *seen)
{
    return list_of_order(&self, 1, seen, 1);
}

/* --- the sweep -------------------------------------------------------------------------------- */

/* The adjoint of every node that the root depends on, in the order that is found for it: an array
   that the caller frees, as the order. NULL with an exception. */
static double *
sweep(PyObject *root, double seed, Order *order)
{
    for (;;) {
        if (order_of(order, &root, 1) < 0) {
            return NULL;
        }
        double *adjoint = PyMem_RawCalloc((size_t)order->count, sizeof(double));
        int stop = adjoint == NULL ? -1 : 0;
        if (adjoint == NULL) {
            PyErr_NoMemory();
        } else {
            adjoint[order->count - 1] = seed;
        }
        for (Py_ssize_t i = order->count; !stop && i-- > 0;) {
            const Node *node = order->node[i];
            double g = adjoint[i];
            if (node->shape & MANY) {
                const Many *many = node->many;
                for (Py_ssize_t k = 0; k < many->parents; k++) {
                    adjoint[many->parent[k]->place] += g * many->local[k];
                }
            } else {
                if (node->shape & A_IS_PARENT) {
                    adjoint[((Node *)node->a)->place] += g * node->da;
                }
                if (node->shape & B_IS_PARENT) {
                    adjoint[((Node *)node->b)->place] += g * node->db;
                }
            }
            if (i % STRIDE == STRIDE - 1) {
                stop = interrupted(order);
            }
        }
        if (!stop) {
            return adjoint;
        }
        PyMem_RawFree(adjoint);
        order_free(order);
        if (stop < 0) {
            return NULL;
        }
    }
}

/* `Value.backward(seed=1.0)`. */
static PyObject *
value_backward(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"seed", NULL};
    PyObject *argument = NULL;
    double seed = 1.0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:backward", names, &argument)
        || (argument != NULL && to_double(argument, &seed) < 0)) {
        return NULL;
    }
    if (a_mode_is_open() && told(PyObject_CallMethod(modes, "swept", "Od", self, seed)) < 0) {
        return NULL;
    }
    Order order = {.seen = NULL, .untaken = 0};
    Py_INCREF(self);
    sweeps++;
    double *adjoint = sweep(self, seed, &order);
    if (adjoint != NULL) {
        for (Py_ssize_t i = 0; i < order.count; i++) {
            Node *node = order.node[i];
            node->grad = node->op == NULL ? adjoint[i] + node->grad : adjoint[i];
        }
        PyMem_RawFree(adjoint);
        order_free(&order);
    }
    sweeps--;
    Py_DECREF(self);
    return adjoint == NULL ? NULL : Py_NewRef(Py_None);
}

/* `adjoints(root, seed=1.0)`. */
static PyObject *
adjoints(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords)
{
    static char *names[] = {"root", "seed", NULL};
    PyObject *root, *result = NULL;
    double seed = 1.0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|d:adjoints", names, &root, &seed)) {
        return NULL;
    }
    Order order = {.seen = NULL, .untaken = 0};
    sweeps++;
    double *adjoint = sweep(root, seed, &order);
    if (adjoint != NULL) {
        result = PyDict_New();
        for (Py_ssize_t i = 0; result != NULL && i < order.count; i++) {
            PyObject *g = PyFloat_FromDouble(adjoint[i]);
            if (g == NULL || PyDict_SetItem(result, (PyObject *)order.node[i], g) < 0) {
                Py_CLEAR(result);
            }
            Py_XDECREF(g);
        }
        PyMem_RawFree(adjoint);
        order_free(&order);
    }
    sweeps--;
    return result;
}

/* --- lists of nodes --------------------------------------------------------------------------- */

static PyObject *
packed(PyObject *Py_UNUSED(module), PyObject *values)
{
    PyObject *fast = land(values) < 0 ? NULL : PySequence_Fast(values, "an iterable is needed");
    if (fast == NULL) {
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(fast);
    PyObject *result = PyByteArray_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(double));
    for (Py_ssize_t i = 0; result != NULL && i < n; i++) {
        PyObject *x = PySequence_Fast_GET_ITEM(fast, i);
        double number;
        if (is_value(x) && !(((Node *)x)->shape & BLANK)) {
            number = ((Node *)x)->data;
        } else if (PyFloat_CheckExact(x)) {
            number = PyFloat_AS_DOUBLE(x);
        } else {
            PyErr_Format(PyExc_TypeError, "Values and floats are packed, not %R", x);
            Py_CLEAR(result);
            break;
        }
        memcpy(PyByteArray_AS_STRING(result) + i * (Py_ssize_t)sizeof number, &number,
               sizeof number);
    }
    Py_DECREF(fast);
    return result;
}

static PyObject *
operands_of_one(PyObject *node)
{
    return is_value(node) ? get_operands((Node *)node, NULL)
                          : PyObject_GetAttrString(node, "operands");
}

static PyObject *
operands_of(PyObject *Py_UNUSED(module), PyObject *nodes)
{
    return list_of(nodes, operands_of_one);
}

static int
check_value(PyObject *x)
{
    if (!is_value(x)) {
        PyErr_Format(PyExc_TypeError, "a Value is needed, not %R", x);
        return -1;
    }
    return 0;
}

static PyObject *
slopes_of(PyObject *Py_UNUSED(module), PyObject *node)
{
    return check_value(node) < 0 ? NULL : slopes((Node *)node);
}

static PyObject *
set_slot_of_grad(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "set_slot_of_grad takes a Value and a number");
        return NULL;
    }
    if (check_value(args[0]) < 0 || to_double(args[1], &((Node *)args[0])->grad) < 0) {
        return NULL;
    }
    return Py_NewRef(Py_None);
}

static PyObject *
count_alive(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyLong_FromSsize_t(alive);
}

/* --- a sum of products ------------------------------------------------------------------------ */

/* Whether it is a Value that has its number; -1 with an exception. */
static inline int
is_made(PyObject *x)
{
    if (Py_IS_TYPE(x, Value)) {
        return 1;
    }
    if (!is_value(x)) {
        return 0;
    }
    return ((Node *)x)->shape & BLANK ? refuse_blank((Node *)x) : 1;
}

/* The node of b + w1 x1 + ... + wn xn, of Values, where the xs may all be floats; or None. */
static PyObject *
summed(PyObject *const *ws, PyObject *const *xs, Py_ssize_t n, PyObject *b)
{
    int of_floats = n > 0 && PyFloat_CheckExact(xs[0]), tracked = is_tracked(b);
    int all = is_made(b);
    for (Py_ssize_t i = 0; i < n && all > 0; i++) {
        if ((all = is_made(ws[i])) > 0) {
            all = of_floats ? PyFloat_CheckExact(xs[i]) : is_made(xs[i]);
        }
        tracked |= is_tracked(ws[i]) || is_tracked(xs[i]);
    }
    if (all <= 0) {
        return all < 0 ? NULL : Py_NewRef(Py_None);
    }
    Many *many = many_alloc(2 * n + 1, of_floats ? n + 1 : 2 * n + 1);
    if (many == NULL) {
        return NULL;
    }
    double z = ((Node *)b)->data;
    for (Py_ssize_t i = 0; i < n; i++) {
        double w = ((Node *)ws[i])->data;
        double x = of_floats ? PyFloat_AS_DOUBLE(xs[i]) : ((Node *)xs[i])->data;
        many->operand[i] = ws[i];
        many->operand[n + i] = xs[i];
        many->parent[i] = (Node *)ws[i];
        many->local[i] = x;
        if (!of_floats) {
            many->local[n + i] = w;
        }
        z += w * x;
    }
    many->operand[2 * n] = b;
    many->parent[many->parents - 1] = (Node *)b;
    many->local[many->parents - 1] = 1.0;
    Node *node = node_of_many(z, row_affine, many, tracked);
    return node != NULL && a_mode_is_open() ? under_modes(node) : (PyObject *)node;
}

/* `sum_of_products(ws, xs, b)` of sums.py: None where the row is to be called. */
static PyObject *
sum_of_products(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "sum_of_products takes ws, xs and b");
        return NULL;
    }
    PyObject *ws = args[0], *xs = args[1];
    if (!(PyList_CheckExact(ws) || PyTuple_CheckExact(ws))
        || !(PyList_CheckExact(xs) || PyTuple_CheckExact(xs))
        || PySequence_Fast_GET_SIZE(ws) != PySequence_Fast_GET_SIZE(xs)) {
        return Py_NewRef(Py_None);
    }
    return summed(PySequence_Fast_ITEMS(ws), PySequence_Fast_ITEMS(xs),
                  PySequence_Fast_GET_SIZE(ws), args[2]);
}

/* --- the types and the module ----------------------------------------------------------------- */

#define FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef value_methods[] = {
    {"__apply_op__", FUNCTION(apply_op), METH_FASTCALL | METH_STATIC, NULL},
    {"__apply_unary__", apply_unary, METH_O, NULL},
    {"__assemble__", FUNCTION(value_assemble), METH_FASTCALL | METH_STATIC, NULL},
    {"__init_subclass__", FUNCTION(value_init_subclass),
     METH_CLASS | METH_VARARGS | METH_KEYWORDS, NULL},
    {"__order__", value_order, METH_O, NULL},
    {"backward", FUNCTION(value_backward), METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef value_attributes[] = {
    {"data", (getter)get_data, (setter)set_data, NULL, NULL},
    {"grad", (getter)get_grad, (setter)set_grad, NULL, NULL},
    {"label", (getter)get_label, (setter)set_label, NULL, NULL},
    {"op", (getter)get_op, (setter)refuse_setting, NULL, "op"},
    {"operands", (getter)get_operands, (setter)refuse_setting, NULL, "operands"},
    {"parents", (getter)get_parents, (setter)refuse_setting, NULL, "parents"},
    {"local_grads", (getter)get_local_grads, (setter)refuse_setting, NULL, "local_grads"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot value_slots[] = {
    {Py_tp_doc, NULL}, /* the first: that of engine.Value */
    {Py_tp_new, value_new},
    {Py_tp_init, value_init},
    {Py_tp_dealloc, node_dealloc},
    {Py_tp_traverse, node_traverse}, /* for subclasses that are tracked */
    {Py_tp_setattro, value_setattro},
    {Py_tp_methods, value_methods},
    {Py_tp_getset, value_attributes},
    {Py_tp_richcompare, value_richcompare},
    {Py_tp_hash, PyObject_HashNotImplemented}, /* that of object, in its place */
    {Py_nb_add, value_add},
    {Py_nb_subtract, value_subtract},
    {Py_nb_multiply, value_multiply},
    {Py_nb_true_divide, value_true_divide},
    {Py_nb_power, value_power},
    {Py_nb_negative, value_negative},
    {0, NULL},
};

static PyType_Spec value_spec = {
    .name = "micrograd_like.engine.Value",
    .basicsize = sizeof(Node),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = value_slots,
};

static PyObject *
get_class(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)Value);
}

static PyGetSetDef tracked_attributes[] = {
    {"__class__", get_class, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot tracked_slots[] = {
    {Py_tp_dealloc, node_dealloc},
    {Py_tp_traverse, node_traverse},
    {Py_tp_clear, tracked_clear},
    {Py_tp_getset, tracked_attributes},
    {0, NULL},
};

static PyType_Spec tracked_spec = {
    .name = "micrograd_like.engine.Value",
    .basicsize = sizeof(Node),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = tracked_slots,
};

static PyMethodDef functions[] = {
    {"adjoints", FUNCTION(adjoints), METH_VARARGS | METH_KEYWORDS, NULL},
    {"count_alive", count_alive, METH_NOARGS, "How many nodes there are."},
    {"node_as", FUNCTION(node_as), METH_FASTCALL, NULL},
    {"numbers_of", numbers_of, METH_O, NULL},
    {"operands_of", operands_of, METH_O, NULL},
    {"packed", packed, METH_O, NULL},
    {"set_slot_of_grad", FUNCTION(set_slot_of_grad), METH_FASTCALL, NULL},
    {"slopes_of", slopes_of, METH_O, NULL},
    {"sum_of_products", FUNCTION(sum_of_products), METH_FASTCALL, NULL},
    {"topological_order", FUNCTION(topological_order), METH_FASTCALL | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

/* The docstring of an attribute of `owner`, which lives for ever; NULL if it has none. */
static const char *
doc_of(PyObject *owner, const char *name)
{
    PyObject *object = PyObject_GetAttrString(owner, name);
    PyObject *doc = object == NULL ? NULL : PyObject_GetAttrString(object, "__doc__");
    const char *text = doc != NULL && PyUnicode_Check(doc) ? PyUnicode_AsUTF8(doc) : NULL;
    PyErr_Clear();
    Py_XDECREF(object);
    return text; /* with the reference to doc */
}

/* Attributes of a module of the package: 0, or -1 with an exception. */
static int
take_names(const char *module, const char *const *names, PyObject **const *places)
{
    PyObject *from = PyImport_ImportModule(module);
    for (; from != NULL && *names != NULL; names++, places++) {
        if ((**places = PyObject_GetAttrString(from, *names)) == NULL) {
            Py_DECREF(from);
            return -1;
        }
    }
    Py_XDECREF(from);
    return from == NULL ? -1 : 0;
}

#define TAKE_NAMES(module, names, ...)                                                             \
    take_names(module, (const char *const[]){REMOVE_PARENTHESES names, NULL},                      \
               (PyObject **const[]){__VA_ARGS__})
#define REMOVE_PARENTHESES(...) __VA_ARGS__

/* What is above belongs to one interpreter's package, which has its own rows and errors: a second
   one, or a second copy of the package, works in Python. */
static int
execute(PyObject *module)
{
    if (Value != NULL) {
        PyErr_SetString(PyExc_ImportError, "the native engine serves one package at a time");
        return -1;
    }
#define INTERN(name) || (str_##name = PyUnicode_InternFromString(#name)) == NULL
    if ((str_empty = PyUnicode_InternFromString("")) == NULL NAMES(INTERN)
        || (modes = PyImport_ImportModule("micrograd_like.modes")) == NULL
        || TAKE_NAMES("micrograd_like.modes",
                      ("open_blocks", "silences", "watches", "traces", "waits"), &open_blocks,
                      &silences, &watches, &traces, &waits) < 0
        || TAKE_NAMES("micrograd_like.numerics", ("number", "number_in"), &number, &number_in) < 0
        || TAKE_NAMES("micrograd_like.methods", ("text"), &text) < 0
        || TAKE_NAMES("micrograd_like.errors", ("OperandError", "DomainError"), &OperandError,
                      &DomainError) < 0
        || TAKE_NAMES("micrograd_like.ops",
                      ("add", "sub", "mul", "div", "power", "neg", "affine_row"), &row_add,
                      &row_sub, &row_mul, &row_div, &row_power, &row_neg, &row_affine) < 0
        || TAKE_NAMES("micrograd_like.engine", ("Value"), &in_python) < 0) {
        return -1;
    }
    if (!PyList_CheckExact(open_blocks)) {
        PyErr_SetString(PyExc_ImportError, "modes.open_blocks is no list");
        return -1;
    }
    for (PyMethodDef *method = value_methods; method->ml_name != NULL; method++) {
        method->ml_doc = doc_of(in_python, method->ml_name);
    }
    for (PyGetSetDef *attribute = value_attributes; attribute->name != NULL; attribute++) {
        attribute->doc = doc_of(in_python, attribute->name);
    }
    for (PyType_Slot *slot = value_slots; slot->slot != 0; slot++) {
        if (slot->slot == Py_tp_doc) {
            slot->pfunc = (void *)((PyTypeObject *)in_python)->tp_doc;
        } else if (slot->slot == Py_tp_hash) {
            slot->pfunc = (void *)PyBaseObject_Type.tp_hash;
        }
    }
    PyObject *bases = ((PyTypeObject *)in_python)->tp_bases; /* the last one has slots of its own */
    bases = PyTuple_GetSlice(bases, 0, PyTuple_GET_SIZE(bases) - 1);
    Value = bases == NULL ? NULL : (PyTypeObject *)PyType_FromSpecWithBases(&value_spec, bases);
    Py_XDECREF(bases);
    if (Value == NULL) {
        return -1;
    }
    Value->tp_vectorcall = value_vectorcall;
    Tracked = (PyTypeObject *)PyType_FromSpecWithBases(&tracked_spec, (PyObject *)Value);
    if (Tracked == NULL) {
        return -1;
    }
    Value->tp_name = Tracked->tp_name = "Value"; /* what the interpreter's messages call it */
    return PyModule_AddObjectRef(module, "Value", (PyObject *)Value);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "micrograd_like._native",
    .m_doc = "The engine in C: see _native.c.",
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module_def);
}
