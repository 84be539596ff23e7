package stream

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/internal/render"
)

func keyOf(kind render.Kind, o runtime.Object) render.Key {
	m, ok := o.(metav1.Object)
	if !ok {
		return render.Key{Kind: kind}
	}
	return render.Key{Kind: kind, Name: m.GetName()}
}

func encoded(o runtime.Object) string {
	text, err := json.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// addressOf is the address of a pod by its number: "team/red-17".
func addressOf(id string) string {
	i := strings.LastIndexByte(id, '-')
	n, err := strconv.Atoi(id[i+1:])
	if err != nil {
		return "192.0.2.255" // none of these tests' pods
	}
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String()
}

// isOf tells whether a member of a set is a pod's address.
func isOf(member, id string) bool { return strings.HasSuffix(member, " "+addressOf(id)) }
