package wire

import (
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

const (
	// maxUpItems bounds the data items of a message to the operator: those of a status of 6,000 pods. What a message decodes to follows from
	// the number of its items and not from its size, for an item of one byte may stand for all fields of an endpoint.
	maxUpItems = 1 << 16
	// maxDownItems bounds those of a message to an agent. What fits into an object of the API has fewer.
	maxDownItems = 1 << 19
	maxNested    = 32
)

// ErrTooLarge is of a message that the other end would refuse.
var ErrTooLarge = errors.New("the message is too large")

// Codec is CBOR for gRPC.
type Codec struct{}

// decoding has the limits of what is decoded. Members of lists and maps are items, of which items bounds the number.
//
//nolint:gochecknoglobals // made once of constants
var decoding = sync.OnceValues(func() (cbor.DecMode, error) {
	return cbor.DecOptions{
		MaxArrayElements: maxDownItems, MaxMapPairs: 1 << 16, MaxNestedLevels: maxNested, IndefLength: cbor.IndefLengthForbidden,
	}.DecMode()
})

// Encoded is a message that has been encoded before, for several agents. It must not change any more.
type Encoded []byte

// Marshal implements encoding.Codec.
func (Codec) Marshal(v any) ([]byte, error) {
	if encoded, ok := v.(Encoded); ok {
		return encoded, nil
	}
	raw, err := cbor.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	return raw, nil
}

// EncodeUp encodes an [Up] or [Relayed]. The error is [ErrTooLarge] for one that the operator would refuse, and with it end the stream.
func EncodeUp(v any) (Encoded, error) {
	raw, err := Codec{}.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxUp {
		return nil, fmt.Errorf("%w: %d bytes, want %d at most", ErrTooLarge, len(raw), MaxUp)
	}
	if n := items(raw); n > maxUpItems {
		return nil, fmt.Errorf("%w: %d data items, want %d at most", ErrTooLarge, n, maxUpItems)
	}
	return raw, nil
}

// Unmarshal implements encoding.Codec. Before anything is allocated it looks at how much that may be: of messages to the operator some 16 MiB.
func (Codec) Unmarshal(data []byte, v any) error {
	limit := maxDownItems
	switch v.(type) {
	case *Up, *Relayed:
		limit = maxUpItems
	}
	if n := items(data); n > limit {
		return fmt.Errorf("decoding %T: %w: %d data items, want %d at most", v, ErrTooLarge, n, limit)
	}
	mode, err := decoding()
	if err == nil {
		err = mode.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("decoding %T: %w", v, err)
	}
	return nil
}

// Name implements encoding.Codec.
func (Codec) Name() string { return "manul-cbor" }

// items counts the data items of a message (RFC 8949, section 3), those in lists and maps and these themselves. It stops where the message
// can't be read, which who decodes it notices.
func items(data []byte) int {
	const (
		byteString, textString = 2, 3
		inPlace, longest       = 24, 27 // smaller arguments are in the first byte; 24 to 27: 1, 2, 4 or 8 bytes follow
	)
	n := 0
	for len(data) > 0 {
		n++
		major, argument := data[0]>>5, uint64(data[0]&0x1f)
		data = data[1:]
		if argument >= inPlace {
			if argument > longest {
				return n
			}
			size := 1 << (argument - inPlace)
			if len(data) < size {
				return n
			}
			argument = 0
			for _, b := range data[:size] {
				argument = argument<<8 | uint64(b)
			}
			data = data[size:]
		}
		if major == byteString || major == textString {
			if argument > uint64(len(data)) {
				return n
			}
			data = data[argument:]
		}
	}
	return n
}
