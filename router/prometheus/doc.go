// Package routerprom offers a router's figures to Prometheus.
//
//	reg.MustRegister(routerprom.NewCollector(rt, routerprom.WithName("jobs")))
//
// Every scrape reads Router.Stats once. The router pays nothing in between. It is a module of its own, so that
// programs without Prometheus do not depend on it.
//
// # Metrics
//
// Names begin with shmrouter_; counters end in _total and begin at zero with every Router.Start, but for those of
// the ring on a segment that was resumed, which go on.
//
//	up                                   1 while the router runs
//	copied_messages_total, copied_bytes_total, routed_messages_total       the stream
//	discarded_messages_total, unfinished_messages_total, unrouted_messages_total, malformed_frames_total
//	                                     what did not reach a receiver, and why: see router.Stats
//	ended_pipes_total, died_pipes_total  ends of pipes, and those by the death of a process
//	handler_panics_total, receiver_stalls_total, claim_stalls_total, damages_total
//	                                     worth an alert if they rise
//	pings_total, turns_total, monitor_wakeups_total, liveness_queries_total
//	ring_skipped_dead_claims_total, ring_swept_claims_total, ring_skipped_aborted_records_total, ring_pads_total,
//	ring_sleeps_total, ring_resyncs_total
//	pipes{state="open|attached|ended|lingering"}, queued_messages, receiver_stalled, broken, watched_processes,
//	earlier_lives, ring_capacity_bytes, ring_used_bytes, ring_room_waiters, ring_consumer_sleeping, ring_page_size_bytes
//	slot_instances_total, slot_sent_records_total, slot_sent_bytes_total, slot_pid     {slot="0..254"}, WithSlots
//
// A router that does not run has up 0, the counters of its last run, and no gauges but up: none that go on saying
// what was true once. That is no error, and says nothing to any log.
//
// What to watch: died_pipes_total for crashes, ring_used_bytes / ring_capacity_bytes for back-pressure, and
// receiver_stalled and claim_stalls_total for who causes it.
package routerprom
