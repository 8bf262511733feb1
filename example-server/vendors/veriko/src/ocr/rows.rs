//! Grouping of the words that Tesseract finds into rows.

use super::Reading;

/// A word and its position in pixels.
#[derive(Debug)]
struct Word {
    left: i64,
    top: i64,
    height: i64,
    confidence: f64,
    text: String,
}

/// Parses Tesseract's output format `tsv`. A receipt has its labels on the left and its values on
/// the right, which Tesseract takes for two blocks. So words are grouped into rows only by their
/// vertical position.
pub(super) fn reading(table: &str) -> Reading {
    let mut words: Vec<Word> = table.lines().filter_map(word).collect();
    words.sort_by_key(|word| word.top * 2 + word.height);
    #[allow(clippy::cast_precision_loss, reason = "a picture has few words")]
    let confidence = words.iter().map(|word| word.confidence).sum::<f64>() / (words.len().max(1) as f64);
    let mut rows: Vec<Vec<Word>> = Vec::new();
    for word in words {
        match rows.last_mut() {
            Some(row) if row.last().is_some_and(|before| are_in_same_row(before, &word)) => row.push(word),
            _ => rows.push(vec![word]),
        }
    }
    Reading { rows: rows.into_iter().map(text).collect(), confidence: confidence / 100.0 }
}

/// Parses a line. Its columns are level, page, block, paragraph, line, word, left, top, width,
/// height, confidence and text. Only words have a confidence that is not negative.
fn word(line: &str) -> Option<Word> {
    let columns: Vec<&str> = line.splitn(12, '\t').collect();
    let number = |column: usize| columns.get(column)?.parse::<i64>().ok();
    let confidence =
        columns.get(10)?.parse::<f64>().ok().filter(|confidence| (0.0..=100.0).contains(confidence))?;
    let text = columns.get(11)?.trim().to_owned();
    let word = Word { left: number(6)?, top: number(7)?, height: number(9)?, confidence, text };
    // Larger values exceed any picture, and sums of them could overflow.
    let sane = [word.left, word.top, word.height].iter().all(|pixels| (0..100_000).contains(pixels));
    (sane && !word.text.is_empty()).then_some(word)
}

/// Returns whether the vertical centre of one word lies within the other.
fn are_in_same_row(before: &Word, after: &Word) -> bool {
    let middle = |word: &Word| word.top * 2 + word.height;
    (middle(after) - middle(before)).abs() < before.height.max(after.height)
}

fn text(mut row: Vec<Word>) -> String {
    row.sort_by_key(|word| word.left);
    row.into_iter().map(|word| word.text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_at_the_same_height_form_a_row_from_left_to_right() {
        let table = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n\
            1\t1\t0\t0\t0\t0\t0\t0\t800\t600\t-1\t\n\
            5\t1\t1\t1\t1\t1\t40\t100\t90\t30\t96.5\tMonto\n\
            5\t1\t1\t1\t2\t1\t40\t160\t90\t30\t90\tFecha\n\
            5\t1\t2\t1\t1\t2\t600\t104\t90\t26\t80\tMXN\n\
            5\t1\t2\t1\t1\t1\t400\t98\t90\t32\t93.5\t$15,000.50\n\
            5\t1\t2\t1\t2\t1\t400\t158\t90\t32\t100\t15/03/2025\n\
            5\t1\t2\t1\t3\t1\t400\t258\t90\t32\t95\t \n\
            5\t1\t2\t1\t3\t1\tx\t258\t90\t32\t95\tno\n\
            5\t1\n";
        let reading = reading(table);
        assert_eq!(reading.rows, ["Monto $15,000.50 MXN", "Fecha 15/03/2025"]);
        assert!((reading.confidence - 0.92).abs() < 1e-9, "{}", reading.confidence);
    }

    #[test]
    fn without_words_there_are_no_rows_and_no_confidence() {
        for table in ["", "level\tpage\n", "5\t1\t1\t1\t1\t1\t99999999999\t1\t1\t1\t90\tfar\n"] {
            assert_eq!(reading(table), Reading::default(), "{table}");
        }
    }
}
