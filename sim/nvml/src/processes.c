/* Processes on slices and on whole GPUs. NVML_WHOLE_GPU as an instance id stands for "any". */
#include "simulator.h"

static bool is_on(const Process *process, unsigned slot, int gpu_instance, int compute_instance)
{
    return process->used && process->gpu == slot &&
           (gpu_instance == NVML_WHOLE_GPU || process->gpu_instance == (uint32_t)gpu_instance) &&
           (compute_instance == NVML_WHOLE_GPU || process->compute_instance == (uint32_t)compute_instance);
}

static bool is_on_target(const Process *process, const Target *target)
{
    bool slice = target->compute != NULL;
    return is_on(process, target->slot, slice ? (int)target->gpu_instance : NVML_WHOLE_GPU,
                 slice ? (int)target->compute_instance : NVML_WHOLE_GPU);
}

bool has_processes(const State *state, unsigned slot, int gpu_instance, int compute_instance)
{
    for (unsigned index = 0; index < MAX_PROCESSES; index++)
        if (is_on(&state->processes[index], slot, gpu_instance, compute_instance))
            return true;
    return false;
}

uint64_t memory_in_use(const State *state, const Target *target)
{
    uint64_t bytes = 0;
    for (unsigned index = 0; index < MAX_PROCESSES; index++)
        if (is_on_target(&state->processes[index], target))
            bytes += state->processes[index].memory;
    return bytes;
}

/* slot -1: those of all GPUs. */
void forget_processes(State *state, int slot)
{
    for (unsigned index = 0; index < MAX_PROCESSES; index++)
        if (slot < 0 || state->processes[index].gpu == (uint32_t)slot)
            state->processes[index] = (Process){0};
}

/* A GPU lists the processes of all its slices, a MIG device its own. A short array is an error that tells the
 * number; a missing one is allowed only with a count of 0. */
static nvmlReturn_t running(State *state, nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *infos)
{
    Target target;
    if (count == NULL || (*count > 0 && infos == NULL))
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_either(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    unsigned room = *count, found = 0;
    for (unsigned index = 0; index < MAX_PROCESSES; index++) {
        const Process *process = &state->processes[index];
        if (!is_on_target(process, &target))
            continue;
        if (found < room)
            infos[found] = (nvmlProcessInfo_t){process->pid, process->memory, process->gpu_instance,
                                               process->compute_instance};
        found++;
    }
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned *count,
                                                            nvmlProcessInfo_t *infos)
{
    ANSWER(running(state, device, count, infos));
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                            nvmlProcessInfo_t *infos)
{
    ANSWER(running(state, device, count, infos));
}
