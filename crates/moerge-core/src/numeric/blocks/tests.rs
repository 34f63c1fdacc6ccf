//! What holds of every block type without a reference.

use super::*;

/// Numbers of all sizes, zeros among them.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let random = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / 8_388_608.0 - 1.0;
    (0..count as u32).map(|i| if i % 7 == 0 { 0.0 } else { random(i) * random(i + 9).exp2() }).collect()
}

fn encoded(block: BlockType, row: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0xa5; row_bytes(block, row.len()).unwrap()];
    encode_row(block, row, importance, &mut bytes).unwrap();
    bytes
}

fn decoded(block: BlockType, row: &[u8]) -> Vec<f32> {
    let mut weights = vec![f32::NAN; row.len() / block.bytes() * block.elements()];
    decode_row(block, row, &mut weights).unwrap();
    weights
}

#[test]
fn rows_are_whole_blocks() {
    for &block in BlockType::ALL {
        assert_eq!(row_bytes(block, block.elements() * 3), Some(block.bytes() * 3));
        assert_eq!(row_bytes(block, block.elements() + 1), None);
    }
}

#[test]
fn weights_beyond_f16_leave_scales_that_are_not_finite() {
    for &block in BlockType::ALL {
        let row = |size: f32| [numbers(256, 3), numbers(256, 4).iter().map(|x| x * size).collect()].concat();
        let found = |size: f32| blocks_not_finite(block, &encoded(block, &row(size), None));
        assert_eq!(found(1.0), 0, "{}", block.name());
        assert_eq!(found(1e12), 256 / block.elements(), "{}", block.name());
    }
}

#[test]
fn lengths_that_do_not_belong_together_are_refused() {
    let mut bytes = [0; 144];
    let message = |result: Result<()>| result.unwrap_err().parts().message.clone();
    assert_eq!(
        message(encode_row(BlockType::Q4_K, &[0.0; 255], None, &mut bytes)),
        "rows of 255 weights are not whole blocks of q4_K, which have 256"
    );
    assert_eq!(
        message(decode_row(BlockType::Q4_K, &bytes[1..], &mut [0.0; 256])),
        "143 bytes for a row of 256 weights in q4_K, which has 144"
    );
    assert_eq!(
        message(encode_row(BlockType::Q4_K, &[0.0; 256], Some(&[0.0]), &mut bytes)),
        "importance of 1 columns for rows of 256"
    );
    assert!(encode_row(BlockType::Q4_K, &[], None, &mut []).is_ok());
}

#[test]
fn errors_are_those_of_the_number_of_bits() {
    let row = numbers(4096, 3);
    let importance: Vec<f32> = numbers(4096, 8).iter().map(|x| x.abs() + 0.1).collect();
    let size = (row.iter().map(|x| x * x).sum::<f32>() / 4096.0).sqrt();
    for &block in BlockType::ALL {
        let bits = block.bytes() as f32 * 8.0 / block.elements() as f32;
        for importance in [None, Some(&importance[..])] {
            let again = decoded(block, &encoded(block, &row, importance));
            let error = (row.iter().zip(&again).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / 4096.0).sqrt() / size;
            assert!(error < 1.9f32.powf(-bits) * 2.0, "{}: {error} with {bits} bits", block.name());
        }
    }
}

#[test]
fn importance_makes_important_columns_more_exact() {
    let row = numbers(4096, 5);
    let important = |i: usize| i % 16 == 3;
    let importance: Vec<f32> = (0..4096).map(|i| if important(i) { 1000.0 } else { 0.001 }).collect();
    for &block in BlockType::ALL {
        let error = |importance: Option<&[f32]>| -> f32 {
            let again = decoded(block, &encoded(block, &row, importance));
            let of = row.iter().zip(&again).enumerate().filter(|(i, _)| important(*i));
            of.map(|(_, (a, b))| (a - b) * (a - b)).sum()
        };
        match block {
            BlockType::Q8_0 => assert_eq!(error(None), error(Some(&importance))),
            _ => assert!(error(Some(&importance)) < error(None) * 0.8, "{}", block.name()),
        }
    }
}

#[test]
fn rows_do_not_depend_on_how_many_blocks_are_done_at_once() {
    let row = numbers(256 * 9, 6);
    for &block in BlockType::ALL {
        let whole = encoded(block, &row, None);
        let parts = row.chunks(block.elements()).flat_map(|x| encoded(block, x, None));
        assert!(whole.into_iter().eq(parts), "{}", block.name());
    }
}

#[test]
fn processors_without_vector_units_give_the_same_bytes() {
    let mut row = numbers(256 * 6, 7);
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45, -0.0];
    odd.iter().enumerate().for_each(|(i, x)| row[256 * 5 + i * 29] = *x);
    row[256 * 2..256 * 3].iter_mut().for_each(|x| *x *= 1e-40);
    row[256 * 4..256 * 5].fill(-0.0);
    let importance: Vec<f32> = numbers(row.len(), 8).iter().map(|x| x.abs()).collect();
    let all = || {
        let of = |block: BlockType| {
            let bytes = [None, Some(&importance[..])].map(|importance| encoded(block, &row, importance));
            let weights: Vec<u32> = decoded(block, &bytes[0]).iter().map(|x| x.to_bits()).collect();
            (bytes, weights)
        };
        BlockType::ALL.iter().map(|block| of(*block)).collect::<Vec<_>>()
    };
    let fast = all();
    unit::PLAIN.set(true);
    let plain = all();
    unit::PLAIN.set(false);
    for ((fast, plain), block) in fast.iter().zip(&plain).zip(BlockType::ALL) {
        assert!(fast == plain, "{}", block.name());
    }
}

#[test]
fn any_numbers_encode_and_any_bytes_decode() {
    arbtest::arbtest(|u| {
        let odd = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45, 65520.0];
        let mut number = |_| -> arbtest::arbitrary::Result<f32> {
            let bits = u.arbitrary::<u32>()?;
            Ok(if bits % 3 == 0 { odd[bits as usize % odd.len()] } else { f32::from_bits(bits) })
        };
        let row = (0..512).map(&mut number).collect::<arbtest::arbitrary::Result<Vec<f32>>>()?;
        let importance = (0..512).map(&mut number).collect::<arbtest::arbitrary::Result<Vec<f32>>>()?;
        for &block in BlockType::ALL {
            encoded(block, &row, None);
            encoded(block, &row, Some(&importance));
            let mut bytes = vec![0; row_bytes(block, 512).unwrap()];
            u.fill_buffer(&mut bytes)?;
            decoded(block, &bytes);
        }
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn what_was_decoded_encodes_to_weights_no_larger() {
    // The scale of a block is an f16, whose smallest steps are 2^-24 apart; iq4_xs multiplies it by up to 32 * 127.
    const SCALE_ERROR: f32 = 1.0 / (1 << 25) as f32;
    const FACTOR: f32 = 32.0 * 127.0;
    arbtest::arbtest(|u| {
        for &block in BlockType::ALL {
            let mut bytes = vec![0; row_bytes(block, 256).unwrap()];
            u.fill_buffer(&mut bytes)?;
            let weights = decoded(block, &bytes);
            let largest = weights.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            if !largest.is_finite() || weights.iter().any(|x| x.is_nan()) || largest > 6e4 {
                continue;
            }
            let again = decoded(block, &encoded(block, &weights, None));
            let bound = largest * 1.25 + FACTOR * SCALE_ERROR;
            let most = again.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            assert!(most <= bound, "{}: {most} is more than {bound}, of {largest}", block.name());
        }
        Ok(())
    })
    .budget_ms(2000);
}
