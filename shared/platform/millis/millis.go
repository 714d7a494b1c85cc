// Package millis is time as binary messages have it: milliseconds since 1970 in 64
// bits without a sign. time.UnixMilli takes the upper half of those for times
// before 1970.
package millis

import (
	"math"
	"time"
)

// Time returns the time of ms.
func Time(ms uint64) time.Time {
	return time.Unix(int64(ms/1000), int64(ms%1000)*int64(time.Millisecond)).UTC()
}

// Of returns the milliseconds of t, or false if t is out of their range.
func Of(t time.Time) (ms uint64, ok bool) {
	sec, ms := t.Unix(), uint64(t.Nanosecond()/int(time.Millisecond))
	const last = math.MaxUint64 / 1000
	if sec < 0 || sec > last || sec == last && ms > math.MaxUint64%1000 {
		return 0, false
	}
	return uint64(sec)*1000 + ms, true
}
