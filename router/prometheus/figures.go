package routerprom

import "github.com/prometheus/client_golang/prometheus"

// figures are what has one series for a router.
var figures = []figure[stats]{
	{"copied_messages_total", "Messages taken out of the ring.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Copied) }},
	{"copied_bytes_total", "Payload bytes taken out of the ring.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Bytes) }},
	{"routed_messages_total", "Messages given to a handler or to a receiver's queue.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Routed) }},
	{"discarded_messages_total", "Messages for closed pipes.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Discarded) }},
	{"unfinished_messages_total", "Large messages of which the end never came.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Unfinished) }},
	{"unrouted_messages_total", "Messages that Stop found sent and not routed.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Unrouted) }},
	{"malformed_frames_total", "Frames that no sender makes: somebody else wrote to the segment.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Malformed) }},
	{"ended_pipes_total", "Pipes that have ended.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Ends) }},
	{"died_pipes_total", "Pipes that have ended by the death of a process.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Deaths) }},
	{"handler_panics_total", "Panics of handlers.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Panics) }},
	{"receiver_stalls_total", "Times that routing stopped for a receiver whose queue was full.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Stalls) }},
	{"claim_stalls_total", "Times that a living worker's unfinished claim held up everybody.", prometheus.CounterValue, func(s stats) float64 { return float64(s.ClaimStalls) }},
	{"damages_total", "Times that damage in the segment was stepped over.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Damages) }},
	{"pings_total", "Times that the event loop was pinged.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Pings) }},
	{"turns_total", "Turns of the event loop.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Turns) }},
	{"monitor_wakeups_total", "Times that the monitor woke from its sleep.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Wakeups) }},
	{"liveness_queries_total", "Times that the kernel was asked whether a worker lives.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Queries) }},
	{"ring_skipped_dead_claims_total", "Claims of dead workers that were skipped.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Ring.Consumer.SkippedDead) }},
	{"ring_swept_claims_total", "Claims of dead workers that the next process in their seat skipped.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Ring.Swept) }},
	{"ring_skipped_aborted_records_total", "Records that were aborted.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Ring.Consumer.SkippedAborted) }},
	{"ring_pads_total", "Ends of laps of the ring left empty.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Ring.Consumer.Pads) }},
	{"ring_sleeps_total", "Times that the ring's consumer slept.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Ring.Consumer.Sleeps) }},
	{"ring_resyncs_total", "Times that the ring's consumer went on behind damage.", prometheus.CounterValue, func(s stats) float64 { return float64(s.Ring.Consumer.Resyncs) }},

	{"queued_messages", "Messages and ends between the monitor and the event loop.", prometheus.GaugeValue, func(s stats) float64 { return float64(s.Queued) }},
	{"receiver_stalled", "Whether routing waits for a receiver whose queue is full.", prometheus.GaugeValue, func(s stats) float64 { return truth(s.StalledBy != nil) }},
	{"broken", "Whether the segment is beyond repair; nothing is received any more then.", prometheus.GaugeValue, func(s stats) float64 { return truth(s.Broken) }},
	{"watched_processes", "Worker processes whose death a pidfd will tell.", prometheus.GaugeValue, func(s stats) float64 { return float64(s.Watched) }},
	{"earlier_lives", "Routers that have resumed on this segment before.", prometheus.GaugeValue, func(s stats) float64 { return float64(s.EarlierLives) }},
	{"ring_capacity_bytes", "Size of the ring.", prometheus.GaugeValue, func(s stats) float64 { return float64(s.Ring.Capacity) }},
	{"ring_used_bytes", "Bytes of the ring that are claimed and not released.", prometheus.GaugeValue, func(s stats) float64 { return float64(s.Ring.Used) }},
	{"ring_room_waiters", "Whether a sender waits for room.", prometheus.GaugeValue, func(s stats) float64 { return truth(s.Ring.Waiters) }},
	{"ring_consumer_sleeping", "Whether the ring's consumer sleeps.", prometheus.GaugeValue, func(s stats) float64 { return truth(s.Ring.Sleeping) }},
	{"ring_page_size_bytes", "Size of the pages of the ring's memory.", prometheus.GaugeValue, func(s stats) float64 { return float64(s.Ring.PageSize) }},
}

// slotFigures are what has one series for a seat of the roster.
var slotFigures = []figure[slot]{
	{"slot_instances_total", "Processes that have taken the seat.", prometheus.CounterValue, func(s slot) float64 { return float64(s.Instance) }},
	{"slot_sent_records_total", "Records sent by the seat's present or last process, up to 255 behind.", prometheus.CounterValue, func(s slot) float64 { return float64(s.Records) }},
	{"slot_sent_bytes_total", "Payload bytes sent by the seat's present or last process, up to 255 records behind.", prometheus.CounterValue, func(s slot) float64 { return float64(s.Bytes) }},
	{"slot_pid", "Process number of the seat's present or last process, as it sees itself; 0 if it left in order.", prometheus.GaugeValue, func(s slot) float64 { return float64(s.PID) }},
}
