package enrollment

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// AppendFrame appends a message to out as a stream has it: after its length in 32
// bits.
func AppendFrame(out, message []byte) ([]byte, error) {
	if len(message) > MaxMessageSize {
		return nil, refusal.Serialization.New("message of %d bytes is longer than %d", len(message), MaxMessageSize)
	}
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(message))), message...), nil
}

// ReadFrame returns the next message of a stream. It makes no room for a message
// before it knows that it may be so long.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read length of message: %w", err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > MaxMessageSize {
		return nil, refusal.Serialization.New("message of %d bytes is longer than %d", n, MaxMessageSize)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	return message, nil
}
