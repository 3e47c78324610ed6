// Every launcher tells its processes who they are in the environment, before MPI is asked: Open MPI's mpirun by OMPI_COMM_WORLD_SIZE,
// MPICH's and srun --mpi=pmi2 by PMI_SIZE, srun --mpi=pmix by PMIX_RANK.
#include "data/ranks/launch.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char open_mpi[] = "openmpi", mpich[] = "mpich";

static int number_in(const char *variable) {
    const char *text = getenv(variable);
    return text ? atoi(text) : 0;
}

// srun starts several processes that MPI knows nothing of when it is not told which MPI they use.
static int slurm_tasks(void) {
    const char *step = getenv("SLURM_STEP_ID");
    return step && getenv("SLURM_PROCID") ? number_in("SLURM_STEP_NUM_TASKS") : 0;
}

kv_launch_signs kv_launch_look(void) {
    const int of_open_mpi = number_in("OMPI_COMM_WORLD_SIZE"), of_pmi = number_in("PMI_SIZE");
    if (of_open_mpi > 0) return (kv_launch_signs){{open_mpi}, of_open_mpi, "Open MPI's mpirun"};
    if (of_pmi > 0 && (getenv("PMI_FD") || getenv("PMI_PORT")))
        return (kv_launch_signs){{mpich, open_mpi}, of_pmi, "mpiexec or srun --mpi=pmi2"};
    if (getenv("PMIX_RANK")) {
        const int tasks = number_in("SLURM_STEP_NUM_TASKS");
        return (kv_launch_signs){{open_mpi}, tasks > 0 ? tasks : 2, "a launcher that speaks PMIx"};
    }
    if (slurm_tasks() > 1) return (kv_launch_signs){{NULL}, slurm_tasks(), "srun"};
    return (kv_launch_signs){.n_processes = 1};
}

int kv_launch_rank(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i])) return number_in(names[i]);
    return -1;
}

int kv_launch_local_size(void) {
    const int of_open_mpi = number_in("OMPI_COMM_WORLD_LOCAL_SIZE");
    return of_open_mpi > 0 ? of_open_mpi : number_in("MPI_LOCALNRANKS");
}

// It stays loaded until the program ends.
static const kv_transport *open_module(const char *name, char *reason, size_t size) {
    char file[64];
    snprintf(file, sizeof file, "kv_mpi_%s.so", name);
    void *library = dlopen(file, RTLD_NOW | RTLD_GLOBAL);
    const kv_transport *found = library ? dlsym(library, "kv_transport_functions") : NULL;
    const size_t used = strlen(reason);
    if (found && found->size == sizeof *found) return found;
    snprintf(reason + used, size - used, "%s%s", used ? "; " : "",
             found ? "it is of another build than this program" : dlerror());
    return NULL;
}

static kv_status no_module(const kv_launch_signs *signs, const char *reason, kv_error *err) {
    if (!signs->names[0])
        return kv_fail(
            err, KV_ERR_ARGUMENT,
            "%s has started %d processes without MPI, which would all do the same; srun --mpi=pmi2 or "
            "--mpi=pmix makes them ranks of one run (KV_MPI=alone lets each go on by itself)",
            signs->launcher, signs->n_processes);
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "%s has started %d processes, but no module for its MPI can be loaded (%s); build with "
                   "-Dmpi=enabled where that MPI is installed (KV_MPI=alone lets each go on by itself)",
                   signs->launcher, signs->n_processes, reason);
}

// KV_MPI, which says it instead of the signs.
static kv_status take_choice(const char *choice, kv_launch_signs *signs, kv_error *err) {
    signs->names[0] = strcmp(choice, open_mpi) == 0 ? open_mpi : strcmp(choice, mpich) == 0 ? mpich : NULL;
    signs->names[1] = NULL;
    if (strcmp(choice, "alone") == 0)
        signs->n_processes = 1;
    else if (!signs->names[0])
        return kv_fail(err, KV_ERR_ARGUMENT, "KV_MPI: found '%.64s', expected alone, openmpi or mpich",
                       choice);
    else if (signs->n_processes < 2)
        signs->n_processes = 2; // whatever the signs are, MPI will know
    if (!signs->launcher) signs->launcher = "a launcher";
    return KV_OK;
}

kv_status kv_launch_transport(const kv_transport **transport, kv_error *err) {
    kv_launch_signs signs = kv_launch_look();
    const char *choice = getenv("KV_MPI");
    char reason[512] = "";
    kv_status status = choice && *choice ? take_choice(choice, &signs, err) : KV_OK;
    *transport = &kv_transport_alone;
    if (status != KV_OK || signs.n_processes == 1) return status;
    const kv_transport *found = NULL;
    for (int i = 0; i < 2 && !found && signs.names[i]; i++)
        found = open_module(signs.names[i], reason, sizeof reason);
    if (!found) return no_module(&signs, reason, err);
    *transport = found;
    setenv("KV_MPI", "alone", 1);
    return KV_OK;
}
