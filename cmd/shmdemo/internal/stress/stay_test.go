package stress

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/shm"
)

type noProcess struct{ process }

func (noProcess) PID() int { return os.Getpid() }

func newTestDiary(t *testing.T) *diary {
	d, err := newDiary()
	require.NoError(t, err)
	t.Cleanup(d.close)
	return d
}

func newTestMember(d *diary, seat, incarnation int) *member {
	return &member{seat: seat, incarnation: incarnation, diary: d, worker: noProcess{}}
}

// Thousands come and go: a bounded number of stays tells of all of them, in order, and the sums are right.
func TestStaysAreBounded(t *testing.T) {
	const workers = 5000
	rec, d := newTestRecorder(2), newTestDiary(t)
	rec.run.began = shm.Now()
	for k := 1; k <= workers; k++ {
		m := newTestMember(d, 1, k)
		rec.came(m)
		m.diary.page.sent.Store(3)
		now := shm.Now()
		rec.stopped(m, now, now+5)
		m.killedAt.Store(shm.Now())
		if k%4 != 0 {
			rec.killed(m, k%2 == 0)
		}
		rec.left(m)
	}
	m := newTestMember(d, 1, workers+1)
	rec.came(m)
	seats := rec.finish().Seats
	require.Empty(t, seats[0].Stays)
	require.NotNil(t, seats[0].Stays, "a list, also in JSON")
	s := seats[1]
	require.LessOrEqual(t, len(s.Stays), staysMost/2)
	require.Greater(t, len(s.Stays), staysMost/16)
	require.LessOrEqual(t, len(s.Pauses), staysMost/2)
	require.Equal(t, workers+1, s.Workers)
	require.Equal(t, workers*3/4, s.Killed)
	require.Equal(t, workers/4, s.KilledInClaim)
	require.Equal(t, workers, s.Stopped)
	require.EqualValues(t, workers*5, s.StoppedFor)
	require.EqualValues(t, workers*3, s.Sent)
	var sum Stay
	next, to := 1, int64(0)
	for _, stay := range s.Stays {
		require.Equal(t, next, stay.Incarnation)
		require.GreaterOrEqual(t, stay.From, to)
		require.GreaterOrEqual(t, stay.To, stay.From)
		require.LessOrEqual(t, stay.Alive, stay.To-stay.From)
		next, to = next+stay.Workers, stay.To
		sum = joinStays(sum, stay)
	}
	require.Equal(t, s.Workers, sum.Workers)
	require.Equal(t, s.Killed, sum.Killed)
	require.Equal(t, s.KilledInClaim, sum.KilledInClaim)
	require.Equal(t, s.Sent, sum.Sent)
	var kills, inClaim int
	for i, k := range s.Kills {
		kills, inClaim = kills+k.Killed, inClaim+k.InClaim
		require.True(t, i == 0 || s.Kills[i-1].At < k.At)
	}
	require.Equal(t, s.Killed, kills)
	require.Equal(t, s.KilledInClaim, inClaim)
	require.Less(t, len(s.Kills), killsMost/2)
	var pauses Pause
	for _, p := range s.Pauses {
		pauses = joinPauses(pauses, p)
	}
	require.Equal(t, s.Stopped, pauses.Stops)
	require.Equal(t, s.StoppedFor, pauses.Stopped)
}

// Equal lives make equal stays, the first as well as the last: a picture of them does not become denser to one side.
func TestStaysAreJoinedAlike(t *testing.T) {
	const life, lives = int64(time.Millisecond), 5000
	rec, d := newTestRecorder(2), newTestDiary(t)
	for k := int64(1); k <= lives; k++ {
		m := newTestMember(d, 0, int(k))
		rec.run.began = shm.Now() - k*life
		rec.came(m)
		stays := rec.line.Seats[0].Stays
		stays[len(stays)-1].From = (k - 1) * life
		m.killedAt.Store(rec.run.began + k*life)
		rec.killed(m, false)
		rec.left(m)
		rec.stopped(m, rec.run.began+(k-1)*life, rec.run.began+(k-1)*life+life/4)
	}
	seat := rec.finish().Seats[0]
	shortest, longest := lives, 0
	for _, s := range seat.Stays[:len(seat.Stays)-1] { // the last one is not full
		shortest, longest = min(shortest, s.Workers), max(longest, s.Workers)
	}
	require.Greater(t, shortest, 1, "there were too many")
	require.LessOrEqual(t, longest, 2*shortest+1)
	shortest, longest = lives, 0
	for _, k := range seat.Kills[1 : len(seat.Kills)-1] {
		shortest, longest = min(shortest, k.Killed), max(longest, k.Killed)
	}
	require.Greater(t, shortest, 1)
	require.LessOrEqual(t, longest, 2*shortest+1)
	shortest, longest = lives, 0
	for _, p := range seat.Pauses[:len(seat.Pauses)-1] {
		shortest, longest = min(shortest, p.Stops), max(longest, p.Stops)
	}
	require.Greater(t, shortest, 1)
	require.LessOrEqual(t, longest, 2*shortest+1)
}

// The killer may be late to say whom it has killed: then the next one sits there already.
func TestKillToldAfterTheNextHasCome(t *testing.T) {
	rec, d := newTestRecorder(1), newTestDiary(t)
	first, second := newTestMember(d, 0, 1), newTestMember(d, 0, 2)
	rec.came(first)
	rec.left(first)
	rec.came(second)
	rec.killed(first, true)
	stays := rec.finish().Seats[0].Stays
	require.Equal(t, []int{1, 0}, []int{stays[0].Killed, stays[1].Killed})
	require.Equal(t, 1, stays[0].KilledInClaim)
}

// Without a timeline nobody writes.
func TestNoRecorder(t *testing.T) {
	var rec *recorder
	m := newTestMember(newTestDiary(t), 0, 1)
	rec.came(m)
	rec.killed(m, true)
	rec.stopped(m, 1, 2)
	rec.left(m)
	rec.phase("sending")
	require.Nil(t, rec.finish())
}
