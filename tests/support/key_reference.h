// A README's table of configuration keys against the schema that the program loads its configuration with, so
// that neither can change without the other. The rows of a table look like this:
//
//     | key | type | default | meaning |
//     |---|---|---|---|
//     | `train.lr` | number from 0 to 1000 | required | the highest learning rate |
//     | `train.lr_end` | number from 0 to 1000 | `train.lr` / 10 | the rate at the last step |
//     | `data.mixture[].weight` | number | required | share of the sequences |
//     | `task` | `lm` or `kvp` | required | what is trained |
//
// key      Dotted, in backticks, as in the schema; "[]" stands for every entry of a list. A group has no
//          row, its keys have; a list has one, and so have the keys of its entries.
// type     "whole number" or "number", with "from A", "above A", "to B" as far as the program refuses what
//          lies outside (it is asked); "true or false"; "text", "path"; the words it may be, in backticks,
//          all of them; "number or `auto`"; "list of whole numbers", "list of numbers", "list of texts",
//          "list of paths", "list of groups"; "group", or "whole number or list of whole numbers", of what the schema leaves open. A comma may end it:
//          ", in bytes".
// default  One or more of these, apart by ";", each with words behind it as one likes:
//            `literal`                what it is when nobody sets it
//            `other.key`              the same as that key's value
//            `other.key` / 10         a part of it
//            none                     nothing
//            required                 the program refuses a configuration without it
//          as in "`24`; `256` with `kind: humaneval`" or "none; required with `task: kvp`".
// meaning  Anything but nothing.
#pragma once

#include "data/config/config.h"

// As the program does it: the merged document (which says what a file has set) and the struct of the schema.
// *data must last until the next call; the caller frees *config.
typedef kv_status key_reference_load(const char *path, const char *const *overrides, size_t n_overrides,
                                     kv_config **config, const void **data, kv_error *err);

typedef struct key_reference {
    const char *readme;  // from the project's root: "train/README.md"
    const char *heading; // the tables' chapter: "## Every key"; it ends at the next heading that is not lower
    const cyaml_schema_value_t *schema;
    key_reference_load *load; // NULL: defaults, ranges and requirements are not looked at
    const char *const *paths; // NULL ends them: exactly those of type "path"; NULL: not looked at
    // Configurations that load, as small as can be: one for each default and each "required" of the table,
    // under the condition it names; NULL ends them. Every default has to be seen in one of them, and none may
    // contradict.
    const char *const *examples;
} key_reference;

// What README and program disagree on, a line each; "" where they agree. The examples are written to `dir`.
// `text` stands for the README's content, NULL: it is read. The caller frees the answer.
char *key_reference_problems(const key_reference *reference, const char *dir, const char *text);

// Fails the test with that list unless it is empty.
void assert_key_reference(const key_reference *reference, const char *dir);
