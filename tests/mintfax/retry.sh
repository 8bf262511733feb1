#!/bin/bash
IDEMPOTENCY_KEY="550e8400-e29b-41d4-a716-446655440000"
MAX_ATTEMPTS=5
BASE_DELAY=1

for attempt in $(seq 0 $((MAX_ATTEMPTS - 1))); do
  response=$(curl -s -w "\n%{http_code}" -X POST https://api.mintfax.com/v1/faxes \
    -H "Authorization: Bearer mfx_test_abc123def456" \
    -H "Idempotency-Key: $IDEMPOTENCY_KEY" \
    -F "to=+12015550100" \
    -F "file=@document.pdf")

  http_code=$(echo "$response" | tail -1)

  if [ "$http_code" -eq 201 ] || [ "$http_code" -eq 200 ]; then
    echo "Success"
    break
  elif [ "$http_code" -eq 500 ] || [ "$http_code" -eq 503 ]; then
    delay=$(echo "$BASE_DELAY * (2 ^ $attempt) + $RANDOM / 32768" | bc -l)
    delay=$(echo "if ($delay > 30) 30 else $delay" | bc -l)
    echo "Attempt $((attempt + 1)) failed ($http_code). Retrying in ${delay}s..."
    sleep "$delay"
  else
    echo "Non-retryable error: $http_code"
    break
  fi
done
