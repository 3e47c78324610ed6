# Tests of HumanEval+ and MBPP+ as Hugging Face has them import numpy, for allclose and the names of some types. Where it
# is not installed, this stands in: kveval has it run, in a space of its own, in front of such tests.
import os
import sys
import types


def close(found, expected, rtol, atol):
    lists = (list, tuple)
    if isinstance(found, lists) and isinstance(expected, lists):
        return len(found) == len(expected) and all(close(f, e, rtol, atol) for f, e in zip(found, expected))
    if isinstance(found, lists):
        return all(close(f, expected, rtol, atol) for f in found)
    if isinstance(expected, lists):
        return all(close(found, e, rtol, atol) for e in expected)
    found, expected = found + 0, expected + 0  # numbers; of others a TypeError, as numpy has it
    return found == expected or (abs(expected) != float('inf') and abs(found - expected) <= atol + rtol * abs(expected))


os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # a pool of threads counts against the limits
try:
    import numpy
except ImportError:
    numpy = types.ModuleType('numpy')
    numpy.allclose = lambda a, b, rtol=1e-05, atol=1e-08: close(a, b, rtol, atol)
    numpy.ndarray, numpy.float32, numpy.float64 = (type(name, (), {}) for name in ('ndarray', 'float32', 'float64'))
    sys.modules['numpy'] = numpy
