package webhooks

import (
	"os"
	"testing"

	"github.com/manul-net/manul/test/apiserver"
)

func TestMain(m *testing.M) { os.Exit(apiserver.Main(m)) }
