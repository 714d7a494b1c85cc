package kafka

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"time"

	"github.com/segmentio/kafka-go/protocol"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// Requests to produce are written here and not by kafka-go, whose record batches
// have no room for a producer's numbers, and take several times as long to make.
// All of it is as versions 3 to 8 have it.

// appendRecord appends an event in the binary mode of CloudEvents' Kafka binding;
// n is its place in the batch. What an event becomes depends on nothing else, least
// of all on the time: so the same events can be told by their bytes.
func appendRecord(b []byte, n int, it *driver.Event) []byte {
	headers, size := 0, 0
	for _, a := range it.Attributes {
		if a.Value != "" {
			name := headerSize(a.Name)
			headers++
			size += varintSize(name) + name + varintSize(len(a.Value)) + len(a.Value)
		}
	}
	size += 2 + varintSize(n) + varintSize(len(it.Document)) + len(it.Document) +
		varintSize(len(it.Data)) + len(it.Data) + varintSize(headers)
	b = appendVarint(b, size)
	b = append(b, 0, 0) // attributes, and no later than the batch
	b = appendVarint(b, n)
	b = append(appendVarint(b, len(it.Document)), it.Document...)
	b = append(appendVarint(b, len(it.Data)), it.Data...)
	b = appendVarint(b, headers)
	for _, a := range it.Attributes {
		if a.Value == "" {
			continue
		}
		b = appendVarint(b, headerSize(a.Name))
		if a.Name == contentType {
			b = append(b, "content-type"...)
		} else {
			b = append(append(b, "ce_"...), a.Name...)
		}
		b = append(appendVarint(b, len(a.Value)), a.Value...)
	}
	return b
}

const contentType = "datacontenttype" // the attribute, which has a header of its own

func headerSize(attribute string) int {
	if attribute == contentType {
		return len("content-type")
	}
	return len("ce_") + len(attribute)
}

func appendVarint(b []byte, n int) []byte { return binary.AppendVarint(b, int64(n)) }

// varintSize is for numbers that are not negative.
func varintSize(n int) int {
	size := 1
	for n <<= 1; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// batchHead is how long a record batch is without its records.
const batchHead = 61

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// numbering is how a broker tells whether it has a batch already: by the producer,
// and the number of the batch's first record among the producer's in the partition.
// All are -1 without.
type numbering struct {
	producer int64
	epoch    int16
	first    int32
}

// appendBatch appends a record batch of count records, which append appends.
func appendBatch(b []byte, by numbering, count int, now time.Time, records func([]byte) []byte) []byte {
	begin := len(b)
	b = append(b, make([]byte, batchHead)...)
	b = records(b)
	head, be := b[begin:], binary.BigEndian
	be.PutUint32(head[8:], uint32(len(head)-12)) //nolint:gosec // all of these are as they are on the wire
	be.PutUint32(head[12:], 0xffffffff)          // the leader's epoch, for the leader
	head[16] = 2                                 // the version of all this
	be.PutUint32(head[23:], uint32(count-1))     //nolint:gosec // of the last record
	// The time is that of sending. A broker may delete by it, and what is old here
	// is new there.
	be.PutUint64(head[27:], uint64(now.UnixMilli())) //nolint:gosec // the earliest
	be.PutUint64(head[35:], uint64(now.UnixMilli())) //nolint:gosec // and the latest
	be.PutUint64(head[43:], uint64(by.producer))     //nolint:gosec // may be -1
	be.PutUint16(head[51:], uint16(by.epoch))        //nolint:gosec // may be -1
	be.PutUint32(head[53:], uint32(by.first))        //nolint:gosec // may be -1
	be.PutUint32(head[57:], uint32(count))           //nolint:gosec // of a batch
	be.PutUint32(head[17:], crc32.Checksum(head[21:], castagnoli))
	return b
}

const clientID = "peat-gateway"

// produceRequest is a request to produce while it is written, with room for what
// only the connection knows.
type produceRequest struct {
	bytes []byte
	topic string
	open  struct{ topics, partitions int } // where the counts are
}

func (r *produceRequest) begin(acks int16, limit time.Duration) {
	be := binary.BigEndian
	b := append(r.bytes[:0], make([]byte, 12)...) // length, which request, version, correlation
	be.PutUint16(b[4:], uint16(protocol.Produce))
	b = append(be.AppendUint16(b, uint16(len(clientID))), clientID...)
	b = be.AppendUint16(b, 0xffff)                                       // no transaction
	b = be.AppendUint16(b, uint16(acks))                                 //nolint:gosec // may be -1
	b = be.AppendUint32(b, uint32(min(limit.Milliseconds()*3/4, 1<<30))) //nolint:gosec // bounded
	r.open.topics, r.topic = len(b), ""
	r.bytes = be.AppendUint32(b, 0)
}

// add appends a partition's records. Partitions of a topic come one after the other.
func (r *produceRequest) add(at place, batch func([]byte) []byte) {
	be := binary.BigEndian
	if at.topic != r.topic {
		r.topic = at.topic
		increment(r.bytes[r.open.topics:])
		r.bytes = append(be.AppendUint16(r.bytes, uint16(len(at.topic))), at.topic...) //nolint:gosec // at most 249
		r.open.partitions = len(r.bytes)
		r.bytes = be.AppendUint32(r.bytes, 0)
	}
	increment(r.bytes[r.open.partitions:])
	r.bytes = be.AppendUint32(r.bytes, uint32(at.partition)) //nolint:gosec // not negative
	size := len(r.bytes)
	r.bytes = batch(be.AppendUint32(r.bytes, 0))
	be.PutUint32(r.bytes[size:], uint32(len(r.bytes)-size-4)) //nolint:gosec // bounded by the request
}

func increment(b []byte) { binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)+1) }

func (r *produceRequest) key() protocol.ApiKey { return protocol.Produce }

func (r *produceRequest) write(w io.Writer, version int16, correlation int32) error {
	_, err := w.Write(r.finish(version, correlation))
	return err
}

// finish says what only the connection knows. It may be said again for another.
func (r *produceRequest) finish(version int16, correlation int32) []byte {
	be := binary.BigEndian
	be.PutUint32(r.bytes, uint32(len(r.bytes)-4))  //nolint:gosec // bounded by the request
	be.PutUint16(r.bytes[6:], uint16(version))     //nolint:gosec // not negative
	be.PutUint32(r.bytes[8:], uint32(correlation)) //nolint:gosec // not negative
	return r.bytes
}
