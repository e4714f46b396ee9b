package journal

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/klauspost/compress/s2"
)

// A backup is a file of parts, each added by one run. A part has a header, then
// pieces of all keys in order, each with the value that it has where that is
// not in an earlier part. So a part needs no list of what was deleted: what is
// not in it is not there. It ends with a count; one that does not is torn, and
// counts for nothing.

// backupMagic begins a file.
const backupMagic = "newswire backup 1\n"

// ErrBackup reports a file that is no backup, or is damaged.
var ErrBackup = errors.New("backup damaged")

// Part is the header of a part.
type Part struct {
	Journal   string    `json:"journal"` // which one: a restored journal is another
	Since     uint64    `json:"since"`   // version up to which values are in the parts before it; 0: none are
	Until     uint64    `json:"until"`   // version that all of it has
	Time      time.Time `json:"time"`
	Head      Seq       `json:"head"`
	Confirmed string    `json:"confirmed_lsn"`
}

const (
	pieceBytes = 256 << 10 // about what a piece holds before it is compressed
	mostPiece  = 64 << 20  // no piece is larger, whatever its length says
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// partWriter writes one part.
type partWriter struct {
	w      io.Writer
	piece  []byte
	last   []byte // key
	count  uint64
	values uint64
	size   int64 // of what was written
}

func (p *partWriter) frame(payload []byte) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(payload, castagnoli))
	for _, b := range [][]byte{head, payload} {
		n, err := p.w.Write(b)
		p.size += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *partWriter) header(h Part) error {
	raw, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return p.frame(raw)
}

// add adds the next key, and its value where the part has one.
func (p *partWriter) add(key, value []byte, has bool) error {
	shared := 0
	for shared < len(key) && shared < len(p.last) && key[shared] == p.last[shared] {
		shared++
	}
	p.piece = binary.AppendUvarint(p.piece, uint64(shared))
	p.piece = appendBytes(p.piece, key[shared:])
	if has {
		p.piece = binary.AppendUvarint(p.piece, uint64(len(value))+1)
		p.piece = append(p.piece, value...)
		p.values++
	} else {
		p.piece = append(p.piece, 0)
	}
	p.last = append(p.last[:0], key...)
	p.count++
	if len(p.piece) < pieceBytes {
		return nil
	}
	return p.cut()
}

func (p *partWriter) cut() error {
	if len(p.piece) == 0 {
		return nil
	}
	err := p.frame(compress(p.piece))
	p.piece, p.last = p.piece[:0], p.last[:0]
	return err
}

// end ends the part: an empty frame, and one with the count.
func (p *partWriter) end() error {
	if err := p.cut(); err != nil {
		return err
	}
	if err := p.frame(nil); err != nil {
		return err
	}
	return p.frame(binary.BigEndian.AppendUint64(nil, p.count))
}

// readFrame reads a frame. The error is io.EOF only where nothing of one is
// there, and io.ErrUnexpectedEOF where it is torn.
func readFrame(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > mostPiece {
		return nil, ErrBackup
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, fmt.Errorf("checksum: %w", ErrBackup)
	}
	return payload, nil
}

// readPart reads a part and calls each for its keys. Key and value are each's
// only until it returns. The error is io.EOF where no part begins.
func readPart(r io.Reader, begin func(Part) error, each func(key, value []byte, has bool) error) (h Part, err error) {
	raw, err := readFrame(r)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return h, fmt.Errorf("header: %w", ErrBackup)
	}
	if err := begin(h); err != nil {
		return h, err
	}
	count := uint64(0)
	for {
		payload, err := readFrame(r)
		if err == nil && len(payload) == 0 {
			payload, err = readFrame(r)
			if err == nil && (len(payload) != 8 || binary.BigEndian.Uint64(payload) != count) {
				err = fmt.Errorf("count: %w", ErrBackup)
			}
			return h, torn(err)
		}
		if err != nil {
			return h, torn(err)
		}
		n, err := eachOf(payload, each)
		if count += n; err != nil {
			return h, err
		}
	}
}

func torn(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// eachOf calls each for the keys of a piece.
func eachOf(piece []byte, each func(key, value []byte, has bool) error) (count uint64, err error) {
	if n, err := s2.DecodedLen(piece); err != nil || n > mostPiece {
		return 0, ErrBackup
	}
	raw, err := s2.Decode(nil, piece)
	if err != nil {
		return 0, ErrBackup
	}
	var key []byte
	for d := (Decoder{Rest: raw}); len(d.Rest) > 0; count++ {
		shared := d.Uvarint()
		rest := d.Bytes()
		if d.Bad || shared > uint64(len(key)) {
			return count, ErrBackup
		}
		key = append(key[:shared], rest...)
		var value []byte
		size := d.Uvarint()
		if size > 0 {
			value = d.Take(int(min(size-1, uint64(len(raw)+1))))
		}
		if d.Bad || len(key) == 0 {
			return count, ErrBackup
		}
		if err := each(key, value, size > 0); err != nil {
			return count, err
		}
	}
	return count, nil
}

// BackupFile is what a backup file holds.
type BackupFile struct {
	Parts []Part
	Size  int64 // of the whole parts; behind it may be a torn one
}

// ScanBackup reads a file through, with all its checksums. A torn part at its
// end is no error; a file of size 0 is an empty backup.
func ScanBackup(f io.Reader) (b BackupFile, err error) {
	r := &counted{r: bufio.NewReaderSize(f, 1<<20)}
	magic := make([]byte, len(backupMagic))
	switch _, err := io.ReadFull(r, magic); {
	case errors.Is(err, io.EOF):
		return b, nil
	case err != nil || string(magic) != backupMagic:
		return b, fmt.Errorf("it is no backup of newswire: %w", ErrBackup)
	}
	b.Size = r.n
	for {
		h, err := readPart(r, func(Part) error { return nil }, func([]byte, []byte, bool) error { return nil })
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return b, nil
		}
		if err == nil && len(b.Parts) > 0 {
			err = h.follows(b.Parts[len(b.Parts)-1])
		}
		if err != nil {
			return b, fmt.Errorf("part %d: %w", len(b.Parts)+1, err)
		}
		b.Parts, b.Size = append(b.Parts, h), r.n
	}
}

// follows checks that a part continues the one before.
func (h Part) follows(before Part) error {
	if h.Since != 0 && (h.Journal != before.Journal || h.Since != before.Until) {
		return fmt.Errorf("it does not continue the one before: %w", ErrBackup)
	}
	return nil
}

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
