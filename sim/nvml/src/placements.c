/* What fits where: memory slots, compute slices, media engines and the ids that instances get. */
#include "simulator.h"

const Card *card_of(const Gpu *gpu)
{
    return &sim_cards[gpu->card];
}

const Profile *profile_of(const Target *target)
{
    return &card_of(target->gpu)->profiles[target->instance->profile];
}

const Profile *profile_by_id(const Card *card, unsigned id)
{
    for (unsigned index = 0; index < card->profile_count; index++)
        if (card->profiles[index].id == id)
            return &card->profiles[index];
    return NULL;
}

const Profile *profile_by_enum(const Card *card, unsigned profile_enum)
{
    for (unsigned index = 0; index < card->profile_count; index++)
        if (card->profiles[index].profile_enum == profile_enum)
            return &card->profiles[index];
    return NULL;
}

bool is_legal_start(const Profile *profile, unsigned start)
{
    for (unsigned index = 0; index < profile->start_count; index++)
        if (profile->starts[index] == start)
            return true;
    return false;
}

typedef struct {
    uint32_t slots; /* one bit a memory slot */
    unsigned of_profile, compute_slices;
    Engines engines;
} Taken;

static uint32_t slot_mask(const Profile *profile, unsigned start)
{
    return ((1u << profile->size) - 1) << start;
}

static void take(Taken *taken, const Profile *profile, unsigned start)
{
    taken->slots |= slot_mask(profile, start);
    taken->compute_slices += profile->compute_slices;
    taken->engines.decoders += profile->engines.decoders;
    taken->engines.encoders += profile->engines.encoders;
    taken->engines.jpegs += profile->engines.jpegs;
    taken->engines.ofas += profile->engines.ofas;
}

static Taken taken_on(const Gpu *gpu, const Profile *profile)
{
    Taken taken = {0};
    for (unsigned id = 0; id < MAX_GPU_INSTANCES; id++) {
        const GpuInstance *instance = &gpu->instances[id];
        if (!instance->used)
            continue;
        const Profile *other = &card_of(gpu)->profiles[instance->profile];
        take(&taken, other, instance->start);
        taken.of_profile += other == profile;
    }
    return taken;
}

static bool has_room(const Card *card, const Taken *taken, const Profile *profile, unsigned start)
{
    const Engines *more = &profile->engines, *used = &taken->engines, *all = &card->engines;
    return (taken->slots & slot_mask(profile, start)) == 0 && taken->of_profile < profile->max_instances &&
           taken->compute_slices + profile->compute_slices <= card->compute_slices &&
           used->decoders + more->decoders <= all->decoders && used->encoders + more->encoders <= all->encoders &&
           used->jpegs + more->jpegs <= all->jpegs && used->ofas + more->ofas <= all->ofas;
}

bool fits(const Gpu *gpu, const Profile *profile, unsigned start)
{
    Taken taken = taken_on(gpu, profile);
    return has_room(card_of(gpu), &taken, profile, start);
}

/* The starts of one profile lie a whole size apart, so taking each that has room finds the most. */
unsigned remaining_capacity(const Gpu *gpu, const Profile *profile)
{
    Taken taken = taken_on(gpu, profile);
    unsigned count = 0;
    for (unsigned index = 0; index < profile->start_count; index++)
        if (has_room(card_of(gpu), &taken, profile, profile->starts[index])) {
            take(&taken, profile, profile->starts[index]);
            taken.of_profile++;
            count++;
        }
    return count;
}

/* Ids by size, as in transcripts of A100 and A30: the whole card 0, halves 2 then 1, quarters from 3, eighths
 * from 7. They say nothing about the start. Returns -1 when the range is used up. */
int free_instance_id(const Gpu *gpu, const Profile *profile)
{
    unsigned parts = card_of(gpu)->memory_slots / profile->size;
    for (unsigned offset = 0; offset < parts; offset++) {
        unsigned id = parts == 2 ? 2 - offset : parts - 1 + offset;
        if (id < MAX_GPU_INSTANCES && !gpu->instances[id].used)
            return (int)id;
    }
    return -1;
}

bool has_instances(const Gpu *gpu)
{
    for (unsigned id = 0; id < MAX_GPU_INSTANCES; id++)
        if (gpu->instances[id].used)
            return true;
    return false;
}
