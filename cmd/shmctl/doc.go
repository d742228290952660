// Command shmctl looks at shared-memory segments of the message router, live or dead, and cleans up after the dead.
//
//	shmctl list                          segments on this machine, who holds them, alive or stale
//	shmctl stat /dev/shm/jobs            geometry, fill, positions, slots, consumer, claims
//	shmctl stat --watch 4711:7           once a second, with rates; a segment without a path is named PID:FD
//	shmctl top                           the same as a live screen: sort, filter, quit by keys
//	shmctl dump --count 10 4711:7        the next ten records, header words decoded, payload in hexadecimal
//	shmctl check                         looks for damage in all segments
//	shmctl prune --dry-run               what would be removed, and why the rest would not
//	shmctl schema stat                   the JSON Schema of what stat --json writes
//
// A segment is named by its path, by a process and its descriptor (PID:FD, or /proc/PID/fd/FD), or not at all:
// list, stat, check and prune then take all that they find, in the directory for segments, in those given with
// --dir, and among the descriptors of this user's processes; top and dump take the one that there is.
//
// It cannot disturb what runs. It opens and maps for reading only, takes no lock, makes no futex call on a segment
// and uses no slot; only prune changes anything, and removes nothing but files of the dead (see its --help).
//
// With --json each command writes what "shmctl schema COMMAND" describes. Within one schema_version fields are
// added, and never removed or given another meaning.
//
// Its exit status is 0 if all went well, 1 if there is damage, 2 for a wrong command line, 3 if it could not look
// or could not remove.
package main
