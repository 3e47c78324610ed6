// What opens and closes a header that is installed (its floor's meson.build lists it): other programs, of C or of C++, may
// include it, and the shared library lets them see what it declares and nothing else.
#pragma once

#ifdef __cplusplus
#define KV_C_BEGIN extern "C" {
#define KV_C_END   }
#else
#define KV_C_BEGIN
#define KV_C_END
#endif
#define KV_API_BEGIN KV_C_BEGIN _Pragma("GCC visibility push(default)")
#define KV_API_END   _Pragma("GCC visibility pop") KV_C_END
