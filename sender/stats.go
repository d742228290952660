package sender

// Stats are a Sender's figures since its Start. After Stop only claims that were open then still change them.
type Stats struct {
	Messages   uint64 `json:"messages"`            // committed, large ones counted once
	Bytes      uint64 `json:"bytes"`               // their payload
	Large      uint64 `json:"large_messages"`      // of the messages, those that took several frames
	Unfinished uint64 `json:"unfinished_messages"` // large messages that ended before their last frame, and were not delivered
	Waits      uint64 `json:"waits"`               // times that the ring was full and a goroutine waited for room
	Aborted    uint64 `json:"aborted_claims"`      // claims that their holders aborted
	Dropped    uint64 `json:"dropped_claims"`      // claims that the program lost, aborted when the garbage collector found them
	Claims     int    `json:"open_claims"`         // claims open now
}

// Stats returns the Sender's figures, all of one instant.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Claims = s.claims
	return st
}
